"""``spec.monitoring``: how the pods' metrics are read."""

from pydantic import Field

from slipway_operator.api.schema import Schema


class Monitoring(Schema):
    """How the pods' metrics are read."""

    enabled: bool | None = Field(
        default=None,
        description="Make a PodMonitor for the Prometheus Operator. Absent: as the operator's "
        "configuration says, where the Prometheus Operator is installed.",
    )

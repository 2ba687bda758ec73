"""``spec.networkPolicy``: limits on the pods' connections."""

from pydantic import Field

from slipway_operator.api.schema import Schema
from slipway_operator.api.spec.values import Cidr


class NetworkPolicy(Schema):
    """Who may talk to the pods, and to whom they may talk. What is absent the operator's
    configuration says.
    """

    enabled: bool | None = Field(
        default=None,
        description="Admit connections to the serving port only, from everywhere.",
    )
    egress_cidrs: list[Cidr] | None = Field(
        default=None,
        max_length=64,
        description="The only networks that the pods may reach, such as the storage's; name "
        "servers are always added. Empty: not limited.",
    )

"""``spec.autoscaling``: scale by load."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from slipway_operator.api.schema import Schema, cel, validated
from slipway_operator.api.spec.values import Quantity


class PodMetric(Schema):
    """A metric of the pods, served by the cluster's custom metrics API."""

    name: str = Field(
        min_length=1,
        max_length=253,
        description="Name of the metric, such as nv_inference_pending_request_count.",
    )
    average_value: Quantity = Field(description="Wanted average over the pods.")


class TriggerMetricType(StrEnum):
    """How KEDA compares a trigger's value with its target."""

    AVERAGE_VALUE = "AverageValue"
    VALUE = "Value"
    UTILIZATION = "Utilization"


class TriggerAuthenticationKind(StrEnum):
    """Where a TriggerAuthentication lives."""

    TRIGGER_AUTHENTICATION = "TriggerAuthentication"
    CLUSTER_TRIGGER_AUTHENTICATION = "ClusterTriggerAuthentication"


class TriggerAuthentication(Schema):
    """Credentials of a trigger, as an object of KEDA."""

    name: str = Field(min_length=1, max_length=253, description="Name of the object.")
    kind: TriggerAuthenticationKind | None = Field(
        default=None, description="Its kind. Absent: TriggerAuthentication."
    )


class Trigger(Schema):
    """A trigger of KEDA, such as a queue's length or the result of a Prometheus query."""

    type: str = Field(
        min_length=1, max_length=63, description="Kind of scaler, such as prometheus."
    )
    name: str | None = Field(
        default=None, min_length=1, max_length=63, description="Name of the trigger."
    )
    metadata: dict[str, Annotated[str, Field(max_length=4096)]] = Field(
        default_factory=dict,
        max_length=32,
        description="What the scaler wants to know; KEDA documents it. All values are strings.",
    )
    metric_type: TriggerMetricType | None = Field(
        default=None, description="How the value is compared. Absent: AverageValue."
    )
    authentication_ref: TriggerAuthentication | None = Field(
        default=None, description="Credentials of the trigger."
    )


class Autoscaling(Schema):
    """A HorizontalPodAutoscaler on the Deployment, or with triggers a ScaledObject of KEDA;
    spec.replicas is then the starting value. Of several targets the one that asks for most pods
    counts.
    """

    model_config = ConfigDict(
        json_schema_extra=validated(
            cel(
                "self.minReplicas <= self.maxReplicas",
                "minReplicas must not be above maxReplicas: raise maxReplicas or lower minReplicas",
            ),
            cel(
                "self.minReplicas > 0 || has(self.triggers) && self.triggers.size() > 0",
                "minReplicas 0 needs triggers, by which KEDA scales up from zero: add one, or set "
                "spec.replicas to 0 to switch the model off",
            ),
            cel(
                "self.targetCpuUtilization > 0 || has(self.targetMemoryUtilization) "
                "|| has(self.podMetrics) && self.podMetrics.size() > 0 "
                "|| has(self.triggers) && self.triggers.size() > 0",
                "there is no target: set targetCpuUtilization, targetMemoryUtilization, podMetrics "
                "or triggers",
            ),
            cel(
                "!(has(self.podMetrics) && self.podMetrics.size() > 0 "
                "&& has(self.triggers) && self.triggers.size() > 0)",
                "podMetrics are for a HorizontalPodAutoscaler and triggers for KEDA: use a trigger "
                "of type prometheus instead of podMetrics",
            ),
        )
    )

    min_replicas: int = Field(
        default=1, ge=0, description="Never fewer pods than this. 0 needs triggers."
    )
    max_replicas: int = Field(ge=1, description="Never more pods than this.")
    target_cpu_utilization: int = Field(
        default=70,
        ge=0,
        le=1000,
        description="Average CPU use in percent of the request. 0: CPU use is no target.",
    )
    target_memory_utilization: int | None = Field(
        default=None, ge=1, le=1000, description="Average memory use in percent of the request."
    )
    pod_metrics: list[PodMetric] | None = Field(
        default=None,
        max_length=8,
        description="Targets for metrics of the pods; needs an adapter for custom metrics.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
    )
    triggers: list[Trigger] | None = Field(
        default=None,
        max_length=16,
        description="Triggers of KEDA, which must be installed and switched on in the operator's "
        "configuration. KEDA then makes the HorizontalPodAutoscaler.",
    )
    polling_interval_seconds: int | None = Field(
        default=None, ge=1, description="How often KEDA looks at the triggers. Absent: 30."
    )
    cooldown_seconds: int | None = Field(
        default=None,
        ge=0,
        description="How long all triggers must be silent before KEDA scales to zero. Absent: 300.",
    )

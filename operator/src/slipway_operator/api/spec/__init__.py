"""The ModelDeployment's spec: the one source of the CRD and of what the operator reads. One module
a section.

``crd.py`` renders these models into the CustomResourceDefinition; a check fails when the file in
``crds/`` is not what they render. No field that a pool may set has a default here: a default could
not be distinguished from intent.
"""

from pydantic import ConfigDict, Field

from slipway_operator.api.schema import Schema, cel, validated
from slipway_operator.api.spec.autoscaling import Autoscaling, Trigger
from slipway_operator.api.spec.golden import Golden
from slipway_operator.api.spec.model import Model, Storage
from slipway_operator.api.spec.monitoring import Monitoring
from slipway_operator.api.spec.network_policy import NetworkPolicy
from slipway_operator.api.spec.pod_template import PodTemplate
from slipway_operator.api.spec.rollout import OnFailure, Rollout
from slipway_operator.api.spec.route import Route
from slipway_operator.api.spec.runtime import (
    Batching,
    Connections,
    LogLevel,
    Resources,
    Runtime,
    Threads,
)
from slipway_operator.api.spec.values import (
    CPU_PROVIDER,
    Cidr,
    IntOrPercent,
    Provider,
    ProviderOptions,
    Quantity,
    is_zero,
)

__all__ = [
    "CPU_PROVIDER",
    "Autoscaling",
    "Batching",
    "Cidr",
    "Connections",
    "Golden",
    "IntOrPercent",
    "LogLevel",
    "Model",
    "ModelDeploymentSpec",
    "Monitoring",
    "NetworkPolicy",
    "OnFailure",
    "PodTemplate",
    "Provider",
    "ProviderOptions",
    "Quantity",
    "Resources",
    "Rollout",
    "Route",
    "Runtime",
    "Storage",
    "Threads",
    "Trigger",
    "is_zero",
]


class ModelDeploymentSpec(Schema):
    """What to serve, where, and how it may be replaced."""

    model_config = ConfigDict(
        json_schema_extra=validated(
            cel(
                "!has(self.route) || !has(self.route.gateway) || "
                "!has(self.route.gateway.grpcHostnames) || "
                "has(self.runtime) && has(self.runtime.grpc) && self.runtime.grpc",
                "route.gateway.grpcHostnames lead to a port that is closed: set runtime.grpc to "
                "true",
            )
        )
    )

    model: Model = Field(description="The artifact.")
    pool: str = Field(
        default="cpu",
        min_length=1,
        max_length=63,
        description="Node-pool profile of the operator's configuration.",
    )
    replicas: int = Field(default=1, ge=0, description="Pods that serve the model.")
    suspend: bool = Field(
        default=False, description="The operator writes nothing but status while this is true."
    )
    autoscaling: Autoscaling | None = Field(default=None, description="Scale by load.")
    golden: Golden | None = Field(
        default=None, description="What the model must compute before a pod is ready."
    )
    runtime: Runtime = Field(default_factory=Runtime, description="How the model is run.")
    rollout: Rollout = Field(
        default_factory=Rollout, description="How one revision replaces another."
    )
    network_policy: NetworkPolicy = Field(
        default_factory=NetworkPolicy, description="Limits on the pods' connections."
    )
    route: Route | None = Field(
        default=None, description="The way to the model from outside the cluster."
    )
    monitoring: Monitoring = Field(
        default_factory=Monitoring, description="How the pods' metrics are read."
    )
    template: PodTemplate = Field(default_factory=PodTemplate, description="Additions to the pods.")

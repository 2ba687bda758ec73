"""The ModelDeployment's spec: the one source of the CRD and of what the operator reads.

``crd.py`` renders these models into the CustomResourceDefinition; a check fails when the file in
``crds/`` is not what they render. No field that a pool may set has a default here: a default could
not be told from intent.
"""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field, WithJsonSchema

from slipway_operator.api.schema import INT_OR_STRING, OPAQUE_OBJECT, Schema, cel, validated

DIGEST_PATTERN = "^sha256:[a-f0-9]{64}$"

OpaqueObject = Annotated[dict[str, Any], WithJsonSchema(OPAQUE_OBJECT)]
IntOrPercent = Annotated[
    int | str, WithJsonSchema({**INT_OR_STRING, "anyOf": [{"type": "integer"}, {"type": "string"}]})
]
_QUANTITY_PATTERN = r"^([0-9]+|[0-9]*[.][0-9]+)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
Quantity = Annotated[
    int | str,
    WithJsonSchema(
        {
            **INT_OR_STRING,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            # The cost of the rule is reckoned from it.
            "maxLength": 32,
            **validated(
                cel(
                    f"type(self) == int ? self >= 0 : self.matches('{_QUANTITY_PATTERN}')",
                    "must be a quantity: a number that is not negative, with a unit where one is "
                    "meant, such as 500m, 2, 0.5Gi or 512Mi",
                    messageExpression="'\"' + string(self) + '\" is not a quantity: write a number "
                    "that is not negative, with a unit where one is meant, such as 500m, 2, 0.5Gi "
                    "or 512Mi'",
                )
            ),
        }
    ),
]


CIDR_PATTERN = r"^(\d{1,3}(\.\d{1,3}){3}/\d{1,2}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*/\d{1,3})$"
Cidr = Annotated[
    str,
    Field(pattern=CIDR_PATTERN, max_length=64),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 64,
            **validated(
                cel(
                    "self.matches('^([0-9]{1,3}([.][0-9]{1,3}){3}/[0-9]{1,2}|"
                    "[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*/[0-9]{1,3})$')",
                    "must be a network: an address, a slash and the length of the prefix, such as "
                    "10.0.0.0/8 or fd00::/8",
                )
            ),
        }
    ),
]


HostName = Annotated[
    str,
    Field(
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    ),
]
ProviderOptions = dict[str, dict[str, Annotated[str, Field(max_length=1024)]]]
ModelAlias = Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=128)]


class ConfigMapKey(Schema):
    """A key of a ConfigMap in the ModelDeployment's namespace."""

    config_map_name: str = Field(min_length=1, description="Name of the ConfigMap.")
    key: str = Field(default="ca.crt", description="Key that holds the PEM bundle.")


class AddressingStyle(StrEnum):
    """How a bucket is named in a request."""

    AUTO = "auto"
    PATH = "path"
    VIRTUAL = "virtual"


class Storage(Schema):
    """How to reach the object storage. Only the fetch container sees any of it."""

    model_config = ConfigDict(
        json_schema_extra=validated(
            cel(
                "!(has(self.anonymous) && self.anonymous && has(self.secretName))",
                "anonymous access and secretName exclude each other: remove one of them",
            )
        )
    )

    secret_name: str | None = Field(
        default=None,
        min_length=1,
        description="Secret with keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY "
        "(AWS_SESSION_TOKEN optional). Not needed with IRSA or anonymous access.",
    )
    endpoint: str | None = Field(
        default=None,
        max_length=2048,
        description="URL of an S3-compatible server. Default: AWS.",
        json_schema_extra=validated(
            cel(
                "self.matches('^https?://.+')",
                "endpoint must be a URL with its scheme, such as https://s3.example.com",
            ),
            cel(
                "!self.matches('^https?://[^/]*@')",
                "endpoint is shown in status and logs and must hold no user name or password: "
                "put them into the Secret that secretName names",
            ),
        ),
    )
    region: str | None = Field(default=None, min_length=1, description="Region of the bucket.")
    addressing_style: AddressingStyle | None = Field(
        default=None,
        description="auto, path (https://host/bucket) or virtual (https://bucket.host).",
    )
    anonymous: bool | None = Field(default=None, description="Send unsigned requests.")
    ca_bundle: ConfigMapKey | None = Field(
        default=None, description="Additional certificate authorities of the storage server."
    )


class Model(Schema):
    """The artifact: where it is, and what it is."""

    uri: str = Field(
        max_length=2048,
        description="Where the ONNX file is: s3://bucket/key, https://host/path or file:///path.",
        json_schema_extra=validated(
            cel(
                "self.matches('^(s3://[^/]+/.+|https?://[^/]+/.*|file:///.+)$')",
                "uri must be s3://bucket/key, https://host/path or file:///path",
            ),
            cel(
                "!self.matches('^https?://[^/]*@')",
                "uri is shown in status and logs and must hold no user name or password: "
                "use a presigned URL, or s3:// with storage.secretName",
            ),
        ),
    )
    digest: str = Field(
        description="SHA-256 of the artifact; the identity of what is served.",
        max_length=128,
        json_schema_extra=validated(
            cel(
                "self.matches('^sha256:[a-f0-9]{64}$')",
                "digest must be 'sha256:' and 64 lower-case hex digits; "
                "get it with: sha256sum model.onnx",
            )
        ),
    )
    storage: Storage | None = Field(default=None, description="Access to the storage.")


class Threads(Schema):
    """Threads of the ONNX Runtime session. Absent: from the container's CPU limit."""

    intra_op: int | None = Field(
        default=None, ge=1, le=1024, description="Threads in one operator."
    )
    inter_op: int | None = Field(default=None, ge=1, le=1024, description="Operators side by side.")
    executor: int | None = Field(
        default=None, ge=1, le=64, description="Runs of the model side by side. Absent: one."
    )


class Batching(Schema):
    """Requests that share one run of the model."""

    max_batch_size: int | None = Field(
        default=None,
        ge=1,
        le=65536,
        description="Rows that may share a run; 1 switches batches off. Absent: up to 32, for "
        "models that gain by it.",
    )
    max_delay_ms: int | None = Field(
        default=None,
        ge=0,
        le=60_000,
        description="How long a request may wait for others, in milliseconds. Absent: not at all.",
    )


class NonFinite(StrEnum):
    """How NaN and infinities, which JSON has not got, are written into JSON answers."""

    REFUSE = "refuse"
    NULL = "null"
    STRING = "string"


class Resources(Schema):
    """Requests and limits of the serve container; they replace the pool's, key by key."""

    requests: dict[str, Quantity] | None = Field(
        default=None, max_length=32, description="Requested quantities."
    )
    limits: dict[str, Quantity] | None = Field(default=None, max_length=32, description="Limits.")


class EnvVar(Schema):
    """One environment variable of the serve container; name and value, no reference."""

    name: str = Field(
        pattern="^[A-Za-z_][A-Za-z0-9_]*$", max_length=256, description="Name of the variable."
    )
    value: str = Field(default="", description="Value of the variable.")


class Runtime(Schema):
    """How the model is run. What is absent comes from the pool."""

    image: str | None = Field(
        default=None, min_length=1, description="Serving image. Default: the pool's."
    )
    providers: list[str] | None = Field(
        default=None,
        min_length=1,
        max_length=8,
        description="Execution providers, all required, in order. Default: the pool's.",
    )
    resources: Resources | None = Field(default=None, description="Requests and limits.")
    provider_options: ProviderOptions | None = Field(
        default=None,
        max_length=8,
        description="Options of execution providers, such as {CUDAExecutionProvider: "
        "{gpu_mem_limit: '4294967296'}}; merged over the pool's, key by key. ONNX Runtime "
        "documents their names.",
    )
    threads: Threads | None = Field(default=None, description="Session threads.")
    batching: Batching | None = Field(
        default=None, description="Requests that share one run of the model."
    )
    queue_size: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Requests that may wait; one more is answered with 429. Absent: 256.",
    )
    request_timeout_ms: int | None = Field(
        default=None,
        ge=0,
        le=86_400_000,
        description="Milliseconds that a request may take before it is answered with 504. "
        "0 or absent: no limit.",
    )
    max_request_size: Quantity | None = Field(
        default=None, description="Largest body of a request, in bytes. Absent: 64Mi."
    )
    non_finite: NonFinite | None = Field(
        default=None,
        description="How NaN and infinities are written into JSON answers. Absent: refused.",
    )
    aliases: list[ModelAlias] | None = Field(
        default=None,
        max_length=16,
        description="Further names under which the model answers, besides that of this object.",
    )
    grpc: bool | None = Field(
        default=None,
        description="Serve the Open Inference Protocol over gRPC too, on port 9000 of the Service.",
    )
    access_log: bool | None = Field(
        default=None, description="Write one log line for each request."
    )
    shared_memory: Quantity | None = Field(
        default=None,
        description="Size of /dev/shm, which counts towards the memory limit. Default: the "
        "pool's, else what the container runtime gives.",
    )
    cache_size: Quantity | None = Field(
        default=None, description="Size limit of the volume that holds the artifact."
    )
    startup_timeout_seconds: int | None = Field(
        default=None,
        ge=10,
        le=86400,
        description="How long loading and warming may take before the container is started anew. "
        "Default: the pool's. A rollout also needs a progressDeadlineSeconds that is as long.",
    )
    env: list[EnvVar] | None = Field(
        default=None,
        max_length=100,
        description="Environment of the serve container. Names with SLIPWAY_ are refused.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            **validated(
                cel(
                    "self.all(e, !e.name.startsWith('SLIPWAY_'))",
                    "names beginning with SLIPWAY_ are set by the operator: use the fields "
                    "threads, batching, queueSize, requestTimeoutMs, maxRequestSize, nonFinite, "
                    "aliases, grpc, accessLog, providers and providerOptions of spec.runtime",
                )
            ),
        },
    )


class OnFailure(StrEnum):
    """What to do when a rollout has failed."""

    ROLLBACK = "Rollback"
    HOLD = "Hold"


class Rollout(Schema):
    """How one revision replaces another. What is absent comes from the pool."""

    max_surge: IntOrPercent | None = Field(
        default=None, description="Pods above the wanted number during a rollout."
    )
    max_unavailable: IntOrPercent | None = Field(
        default=None, description="Pods that may be missing during a rollout."
    )
    min_ready_seconds: int | None = Field(
        default=None, ge=0, description="How long a pod must be ready before it counts."
    )
    progress_deadline_seconds: int | None = Field(
        default=None, ge=1, description="A rollout without progress for this long has failed."
    )
    on_failure: OnFailure = Field(
        default=OnFailure.ROLLBACK,
        description="Rollback: return to the last good revision. Hold: leave everything as it is.",
    )


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


class ParentRef(Schema):
    """The Gateway, or one of its listeners, that the route belongs to."""

    name: str = Field(min_length=1, max_length=253, description="Name of the Gateway.")
    namespace: str | None = Field(
        default=None,
        min_length=1,
        max_length=63,
        description="Its namespace. Absent: that of this object.",
    )
    section_name: str | None = Field(
        default=None, min_length=1, max_length=253, description="One of its listeners."
    )
    port: int | None = Field(
        default=None, ge=1, le=65535, description="Listeners with this port only."
    )


class GatewayRoute(Schema):
    """An HTTPRoute of the Gateway API. It takes a path other than / off again, since models answer
    below /.
    """

    parent_refs: list[ParentRef] = Field(
        min_length=1, max_length=32, description="Gateways that the route belongs to."
    )


class IngressRoute(Schema):
    """An Ingress. To take a path other than / off again is a matter of its controller's
    annotations.
    """

    class_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        description="IngressClass. Absent: the cluster's default.",
    )
    tls_secret_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        description="Secret with the certificate of the host names.",
    )
    annotations: dict[str, str] | None = Field(
        default=None, max_length=64, description="Annotations for the controller."
    )


class Route(Schema):
    """The way to the model from outside the cluster."""

    model_config = ConfigDict(
        json_schema_extra=validated(
            cel(
                "has(self.gateway) != has(self.ingress)",
                "a route is either for a Gateway or an Ingress: set gateway or ingress, not both",
            )
        )
    )

    hostnames: list[HostName] = Field(
        min_length=1,
        max_length=16,
        description="Host names under which the model answers; the first is shown in status.url.",
    )
    path: str = Field(
        default="/",
        max_length=1024,
        pattern="^/[A-Za-z0-9/._~-]*$",
        description="Path prefix under which the model answers.",
    )
    https: bool | None = Field(
        default=None,
        description="Whether clients come by https, for status.url. Absent: with a gateway true, "
        "with an ingress if it has a tlsSecretName.",
    )
    gateway: GatewayRoute | None = Field(
        default=None, description="Make an HTTPRoute of the Gateway API."
    )
    ingress: IngressRoute | None = Field(default=None, description="Make an Ingress.")


class Monitoring(Schema):
    """How the pods' metrics are read."""

    enabled: bool | None = Field(
        default=None,
        description="Make a PodMonitor for the Prometheus Operator. Absent: as the operator's "
        "configuration says, where the Prometheus Operator is installed.",
    )


class PodTemplate(Schema):
    """What users add to the model's pods; merged over the pool's values. What the operator itself
    sets cannot be replaced.
    """

    labels: dict[str, str] | None = Field(
        default=None,
        max_length=64,
        description="Labels of the pods.",
        json_schema_extra=validated(
            cel(
                "self.all(k, !k.startsWith('slipway.dev/') && k != 'app.kubernetes.io/managed-by' "
                "&& k != 'pod-template-hash')",
                "labels beginning with slipway.dev/, app.kubernetes.io/managed-by and "
                "pod-template-hash are set by the operator and by Kubernetes: choose other names",
            )
        ),
    )
    annotations: dict[str, str] | None = Field(
        default=None,
        max_length=64,
        description="Annotations of the pods.",
        json_schema_extra=validated(
            cel(
                "self.all(k, !k.startsWith('slipway.dev/') && "
                "k != 'eks.amazonaws.com/skip-containers')",
                "annotations beginning with slipway.dev/ and eks.amazonaws.com/skip-containers are "
                "set by the operator: choose other names",
            )
        ),
    )
    node_selector: dict[str, str] | None = Field(
        default=None, description="Merged over the pool's selector, key by key."
    )
    tolerations: list[OpaqueObject] | None = Field(
        default=None, description="Added to the pool's tolerations."
    )
    affinity: OpaqueObject | None = Field(default=None, description="Affinity of the pods.")
    topology_spread_constraints: list[OpaqueObject] | None = Field(
        default=None,
        max_length=16,
        description="Replaces the default, which spreads the pods over zones and hosts as far as "
        "possible; an empty list removes it.",
    )
    service_account_name: str | None = Field(
        default=None, description="ServiceAccount of the pods, for IRSA. Its token is not mounted."
    )
    priority_class_name: str | None = Field(default=None, description="PriorityClass of the pods.")
    image_pull_secrets: list[OpaqueObject] | None = Field(
        default=None, description="Secrets for pulling the image."
    )
    termination_grace_period_seconds: int | None = Field(
        default=None, ge=0, description="Default: drain delay + drain time-out + 5 s."
    )


class ModelDeploymentSpec(Schema):
    """What to serve, where, and how it may be replaced."""

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

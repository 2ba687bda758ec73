"""The operator's configuration: one YAML file, written by the Helm chart from its values."""

from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

from slipway_operator.api.selector import LabelSelector
from slipway_operator.api.spec import (
    CPU_PROVIDER,
    Cidr,
    IntOrPercent,
    Provider,
    ProviderOptions,
    Quantity,
    is_zero,
)


class SettingsError(Exception):
    """The configuration cannot be used; the message lists each mistake and its place."""


class _Strict(BaseModel):
    """A part of the configuration. Unknown keys are refused: they are typing mistakes."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid"
    )


USER_ID = 65532
"""The user of the runtime's image."""


def _number_as_text(value: object) -> object:
    """Take `0.5` for what Kubernetes takes it for, as YAML has it without quotes."""
    return f"{value:.6g}" if isinstance(value, float) else value


_Amount = Annotated[Quantity, BeforeValidator(_number_as_text)]


def _empty_is_none(value: object) -> object:
    # Helm drops a null that replaces a default of the chart; an empty string gets through.
    return None if value == "" else value


# A pool's name is a label value of its pods.
PoolName = Annotated[
    str, Field(max_length=63, pattern="^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
]


def _without_password(url: str) -> str:
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise ValueError(
            "a proxy's address is seen by everybody who may read pods and must hold no user name "
            "or password"
        )
    return url


ProxyUrl = Annotated[
    Annotated[str, Field(pattern="^https?://[^/ ]+/?$"), AfterValidator(_without_password)] | None,
    BeforeValidator(_empty_is_none),
]


class PoolResources(_Strict):
    """Requests and limits of the serve container on this pool."""

    requests: dict[str, _Amount] = Field(default_factory=dict)
    limits: dict[str, _Amount] = Field(default_factory=dict)


class PoolRollout(_Strict):
    """Rollout settings for models that give none."""

    max_surge: IntOrPercent = 1
    max_unavailable: IntOrPercent = 0
    min_ready_seconds: int = Field(default=0, ge=0)
    progress_deadline_seconds: int = Field(default=600, ge=1)

    @model_validator(mode="after")
    def _replaces_pods(self) -> Self:
        """Refuse what every model of the pool would be refused for."""
        if is_zero(self.max_surge) and is_zero(self.max_unavailable):
            raise ValueError(
                "maxSurge and maxUnavailable are both 0, so no pod could ever be replaced"
            )
        if self.progress_deadline_seconds <= self.min_ready_seconds:
            raise ValueError("progressDeadlineSeconds must be above minReadySeconds")
        return self


class Proxy(_Strict):
    """How `fetch` reaches its storage. Part of the pod template, so it must hold no password."""

    https_proxy: ProxyUrl = None
    http_proxy: ProxyUrl = None
    no_proxy: Annotated[str | None, BeforeValidator(_empty_is_none)] = Field(
        default=None, description="Hosts and domains that are reached directly, comma-separated."
    )


class PullSecret(_Strict):
    """A Secret by which an image is pulled; one of that name is in each model's namespace."""

    name: str = Field(min_length=1, max_length=253)


class Pool(_Strict):
    """A profile of nodes: what a model gets when it names this pool."""

    image: str = Field(min_length=1, description="Serving image.")
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: list[PullSecret] = Field(default_factory=list[PullSecret])
    providers: list[Provider] = Field(default_factory=lambda: [CPU_PROVIDER], min_length=1)
    preferred_providers: list[Provider] = Field(default_factory=list[str])
    provider_options: ProviderOptions = Field(default_factory=dict)
    resources: PoolResources = Field(default_factory=PoolResources)
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])
    runtime_class_name: str | None = None
    run_as_user: Annotated[Annotated[int, Field(ge=1)] | None, BeforeValidator(_empty_is_none)] = (
        Field(
            default=USER_ID,
            description="User, group and volume group of the pods. Null or empty: the platform "
            "chooses, as OpenShift does.",
        )
    )
    shared_memory: Annotated[Quantity | None, BeforeValidator(_empty_is_none)] = None
    proxy: Proxy = Field(
        default_factory=Proxy, description="Instead of the one for all pools, unless it is empty."
    )
    cache_size: Quantity = "2Gi"
    rollout: PoolRollout = Field(default_factory=PoolRollout)
    drain_delay_seconds: int = Field(default=5, ge=0, le=86400)
    drain_timeout_seconds: int = Field(default=30, ge=0, le=86400)
    startup_timeout_seconds: int | None = Field(
        default=None,
        ge=10,
        description="How long loading and warming may take. Default: as long as the rollout may, "
        "its progressDeadlineSeconds.",
    )
    adopt_changes: bool = Field(
        default=False,
        description="Roll out again when the operator, its images or this profile change.",
    )

    @model_validator(mode="after")
    def _either_required_or_preferred(self) -> Self:
        """A pod with both would not start."""
        if both := [name for name in self.preferred_providers if name in self.providers]:
            raise ValueError(f"{', '.join(both)} is both in providers and in preferredProviders")
        if CPU_PROVIDER in self.preferred_providers:
            raise ValueError(f"{CPU_PROVIDER} cannot be preferred: name it last in providers")
        return self


class ModelNetworkPolicy(_Strict):
    """The NetworkPolicy of models that do not say it themselves."""

    enabled: bool = True
    egress_cidrs: list[Cidr] = Field(
        default_factory=list[str], description="Empty: egress is not limited."
    )


class Integration(_Strict):
    """Kinds of another project that the operator may use; it needs rights for them."""

    enabled: bool = False


class PodMonitors(Integration):
    """PodMonitors of models that do not say it themselves."""

    labels: dict[str, str] = Field(
        default_factory=dict[str, str], description="By which a Prometheus selects PodMonitors."
    )
    interval: Annotated[
        Annotated[str, Field(pattern=r"^[0-9]+(ms|s|m|h)$")] | None,
        BeforeValidator(_empty_is_none),
    ] = Field(default=None, description="How often metrics are read.")


class Integrations(_Strict):
    """Children whose kind may be missing from the cluster, or is not wanted by every user."""

    pod_monitor: PodMonitors = Field(default_factory=PodMonitors)
    keda: Integration = Field(default_factory=Integration)
    gateway: Integration = Field(default_factory=Integration)
    ingress: Integration = Field(default_factory=Integration)


class LeaderElection(_Strict):
    """Times of the Lease: retry < renew deadline < duration, so that a leader ends before it is
    replaced.
    """

    namespace: str | None = None
    name: str = "slipway-operator"
    duration_seconds: float = Field(default=4.0, gt=0)
    renew_deadline_seconds: float = Field(default=3.0, gt=0)
    retry_period_seconds: float = Field(default=0.5, gt=0)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        """Two leaders at a time could be the result of any other order."""
        if not self.retry_period_seconds < self.renew_deadline_seconds < self.duration_seconds:
            raise ValueError(
                "retryPeriodSeconds must be below renewDeadlineSeconds, and that below "
                "durationSeconds"
            )
        return self


class Settings(_Strict):
    """The whole configuration of an operator's process."""

    pools: dict[PoolName, Pool] = Field(min_length=1)
    namespaces: list[str] = Field(
        default_factory=list[str], description="Empty: the whole cluster."
    )
    selector: LabelSelector = Field(
        default_factory=LabelSelector,
        description="Which ModelDeployments are served, by their labels. Empty: all.",
    )
    workers: Annotated[int, Field(ge=1, le=256)] = 8
    resync_seconds: float = Field(default=300.0, gt=0)
    ambiguous_restarts: int = Field(
        default=3, ge=1, description="Restarts after which an ambiguous failure is one."
    )
    revision_history_limit: int = Field(default=10, ge=2, le=30)
    conflict_backoff_seconds: float = Field(
        default=300.0,
        gt=0,
        description="A field that others change back three times within this is left alone as "
        "long.",
    )
    proxy: Proxy = Field(
        default_factory=Proxy, description="The way of `fetch` to the storage, on every pool."
    )
    fetch_progress: bool = Field(
        default=False,
        description="Read how far a download has come from the log of `fetch`, while one is under "
        "way. Needs the right to get pods/log.",
    )
    model_network_policy: ModelNetworkPolicy = Field(default_factory=ModelNetworkPolicy)
    integrations: Integrations = Field(default_factory=Integrations)
    leader_election: LeaderElection = Field(default_factory=LeaderElection)
    http_port: int = Field(default=8080, ge=1, le=65535, description="/metrics, /healthz, /readyz.")
    log_format: str = Field(default="json", pattern="^(json|text)$")


def load_settings(path: Path) -> Settings:
    """Read the configuration.

    Raises:
        SettingsError: the file is missing, is not YAML, or holds a value that is not allowed.
    """
    try:
        data = yaml.safe_load(path.read_text())
    except OSError as error:
        raise SettingsError(f"cannot read the configuration {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{path} is not valid YAML: {error}") from None
    try:
        return Settings.model_validate(data)
    except ValidationError as error:
        mistakes = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'configuration'}: {item['msg']}"
            for item in error.errors(include_url=False, include_input=False)
        )
        raise SettingsError(f"{path} cannot be used: {mistakes}") from None

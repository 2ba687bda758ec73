"""Merges a ModelDeployment's spec over its pool: what is absent in the spec comes from the pool."""

from dataclasses import dataclass
from typing import TypeVar

from slipway_operator.api.model_deployment import Json
from slipway_operator.api.settings import Pool, Proxy, Settings
from slipway_operator.api.spec import ModelDeploymentSpec, OnFailure, Resources, is_zero


class RejectedSpecError(Exception):
    """The merged spec cannot be built; a person must change the spec or the configuration.

    Attributes:
        reason: CamelCase word for the Stalled condition.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class ResolvedRollout:
    """How revisions replace each other. Not a part of a revision's identity."""

    max_surge: int | str
    max_unavailable: int | str
    min_ready_seconds: int
    progress_deadline_seconds: int
    on_failure: OnFailure


def resolve_pool(spec: ModelDeploymentSpec, settings: Settings) -> Pool:
    """The profile that ``spec.pool`` names.

    Raises:
        RejectedSpecError: there is no such pool; the message lists those that exist.
    """
    pool = settings.pools.get(spec.pool)
    if pool is None:
        allowed = ", ".join(sorted(settings.pools))
        raise RejectedSpecError(
            "UnknownPool",
            f"spec.pool '{spec.pool}' is not a pool of this operator: use one of {allowed}, "
            "or add it to the operator's configuration",
        )
    if pool.proxy == Proxy() and settings.proxy != Proxy():
        return pool.model_copy(update={"proxy": settings.proxy})
    return pool


_T = TypeVar("_T")


def _first(*values: _T | None) -> _T:
    return next(value for value in values if value is not None)


def _either(own: _T | None, profile: _T | None) -> _T | None:
    return profile if own is None else own


def resolve_rollout(spec: ModelDeploymentSpec, pool: Pool) -> ResolvedRollout:
    """Merge the rollout settings and check what only the merged result can tell.

    Raises:
        RejectedSpecError: no pod could ever be replaced, or the deadline is too short.
    """
    wanted, profile = spec.rollout, pool.rollout
    merged = ResolvedRollout(
        max_surge=_first(wanted.max_surge, profile.max_surge),
        max_unavailable=_first(wanted.max_unavailable, profile.max_unavailable),
        min_ready_seconds=_first(wanted.min_ready_seconds, profile.min_ready_seconds),
        progress_deadline_seconds=_first(
            wanted.progress_deadline_seconds, profile.progress_deadline_seconds
        ),
        on_failure=wanted.on_failure,
    )
    if is_zero(merged.max_surge) and is_zero(merged.max_unavailable):
        raise RejectedSpecError(
            "InvalidRollout",
            "maxSurge and maxUnavailable are both 0, so no pod could ever be replaced: set "
            f"spec.rollout.maxSurge or spec.rollout.maxUnavailable (pool '{spec.pool}' gives "
            f"maxSurge {profile.max_surge}, maxUnavailable {profile.max_unavailable})",
        )
    if merged.progress_deadline_seconds <= merged.min_ready_seconds:
        raise RejectedSpecError(
            "InvalidRollout",
            f"progressDeadlineSeconds ({merged.progress_deadline_seconds}) must be above "
            f"minReadySeconds ({merged.min_ready_seconds}): raise "
            "spec.rollout.progressDeadlineSeconds or lower spec.rollout.minReadySeconds",
        )
    return merged


@dataclass(frozen=True)
class ResolvedServing:
    """How the serve container runs: spec over pool. ``providers`` are required."""

    image: str
    image_pull_secrets: list[Json]
    providers: list[str]
    preferred_providers: list[str]
    provider_options: dict[str, dict[str, str]]
    resources: Json
    shared_memory: int | str | None
    cache_size: int | str
    node_selector: dict[str, str]
    tolerations: list[Json]
    termination_grace_seconds: int
    startup_timeout_seconds: int


def resolve_serving(spec: ModelDeploymentSpec, pool: Pool) -> ResolvedServing:
    """Merge what reaches the pod; maps are merged key by key, tolerations and pull secrets joined.

    Raises:
        RejectedSpecError: a provider is preferred that is required, or options are given for one
            that is not used.
    """
    runtime, template = spec.runtime, spec.template
    own = runtime.resources or Resources()
    parts = {
        "requests": {**pool.resources.requests, **(own.requests or {})},
        "limits": {**pool.resources.limits, **(own.limits or {})},
    }
    providers = runtime.providers or pool.providers
    preferred = _preferred_providers(spec, pool, providers)
    return ResolvedServing(
        image=runtime.image or pool.image,
        image_pull_secrets=_pull_secrets(template.image_pull_secrets or [], pool),
        providers=providers,
        preferred_providers=preferred,
        provider_options=_provider_options(spec, pool, [*preferred, *providers]),
        shared_memory=_either(runtime.shared_memory, pool.shared_memory),
        resources={name: part for name, part in parts.items() if part},
        cache_size=_first(runtime.cache_size, pool.cache_size),
        node_selector={**pool.node_selector, **(template.node_selector or {})},
        tolerations=[*pool.tolerations, *(template.tolerations or [])],
        termination_grace_seconds=_first(
            template.termination_grace_period_seconds,
            pool.drain_delay_seconds + pool.drain_timeout_seconds + 5,
        ),
        startup_timeout_seconds=_first(
            runtime.startup_timeout_seconds,
            pool.startup_timeout_seconds,
            # Kubelet and rollout lose patience together: whoever raises one of the two in the
            # pool raises both.
            max(10, pool.rollout.progress_deadline_seconds),
        ),
    )


def _pull_secrets(own: list[Json], pool: Pool) -> list[Json]:
    profile: list[Json] = [{"name": secret.name} for secret in pool.image_pull_secrets]
    return [*(secret for secret in profile if secret not in own), *own]


def _preferred_providers(spec: ModelDeploymentSpec, pool: Pool, required: list[str]) -> list[str]:
    own = spec.runtime.preferred_providers
    if own is None:
        # A model may require what its pool prefers.
        return [name for name in pool.preferred_providers if name not in required]
    if both := [name for name in own if name in required]:
        raise RejectedSpecError(
            "InvalidProviders",
            f"spec.runtime.preferredProviders has {', '.join(both)}, which is required by "
            f"spec.runtime.providers or by pool '{spec.pool}': remove it from preferredProviders, "
            "or give spec.runtime.providers without it",
        )
    return own


def _provider_options(
    spec: ModelDeploymentSpec, pool: Pool, providers: list[str]
) -> dict[str, dict[str, str]]:
    own = spec.runtime.provider_options or {}
    if unused := sorted(own.keys() - set(providers)):
        raise RejectedSpecError(
            "InvalidProviders",
            f"spec.runtime.providerOptions has options for {', '.join(unused)}, but the model runs "
            f"on {', '.join(providers)}: add the provider to spec.runtime.providers or to "
            "spec.runtime.preferredProviders, or remove its options",
        )
    merged = {
        name: {**pool.provider_options.get(name, {}), **own.get(name, {})} for name in providers
    }
    return {name: options for name, options in merged.items() if options}

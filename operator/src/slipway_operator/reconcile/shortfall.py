"""What a spec asks for and cannot get here: the model is served, and a user has to act."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from slipway_operator.api.model_deployment import Json, ModelDeployment
from slipway_operator.api.settings import Integration, Integrations, Settings
from slipway_operator.reconcile import kinds
from slipway_operator.reconcile.kinds import Kind
from slipway_operator.reconcile.observation import Observation
from slipway_operator.reconcile.removal import stuck_removal


@dataclass(frozen=True)
class Shortfall:
    """The first thing that is missing.

    Attributes:
        reason: CamelCase word for the conditions.
        message: what is missing, and the remedy.
    """

    reason: str
    message: str


@dataclass(frozen=True)
class _Requirement:
    """A field of the spec that needs an optional kind.

    Attributes:
        value: where the chart's values switch the kind on.
        install: what brings the kind into the cluster.
    """

    field: str
    kind: Kind
    value: str
    install: str


_MONITORING = _Requirement(
    "spec.monitoring.enabled", kinds.POD_MONITOR, "podMonitor", "install the Prometheus Operator"
)
_TRIGGERS = _Requirement("spec.autoscaling.triggers", kinds.SCALED_OBJECT, "keda", "install KEDA 2")
_GATEWAY = _Requirement(
    "spec.route.gateway", kinds.HTTP_ROUTE, "gateway", "install the Gateway API, version 1"
)
_GRPC = _Requirement(
    "spec.route.gateway.grpcHostnames",
    kinds.GRPC_ROUTE,
    "gateway",
    "install the Gateway API, version 1.1 or later",
)
_INGRESS = _Requirement("spec.route.ingress", kinds.INGRESS, "ingress", "")


def enabled_kinds(settings: Settings) -> tuple[Kind, ...]:
    """The optional kinds that the configuration lets the operator use."""
    return tuple(
        requirement.kind
        for requirement in (_MONITORING, _TRIGGERS, _GATEWAY, _GRPC, _INGRESS)
        if _setting(settings.integrations, requirement).enabled
    )


def _setting(integrations: Integrations, requirement: _Requirement) -> Integration:
    by_value: dict[str, Integration] = {
        _MONITORING.value: integrations.pod_monitor,
        _TRIGGERS.value: integrations.keda,
        _GATEWAY.value: integrations.gateway,
        _INGRESS.value: integrations.ingress,
    }
    return by_value[requirement.value]


def shortfall(obs: Observation, settings: Settings, clock: datetime) -> Shortfall | None:
    """What is missing of what the spec asks for."""
    for requirement in _requirements(obs.model):
        name = requirement.kind.name
        if not _setting(settings.integrations, requirement).enabled:
            return Shortfall(
                "IntegrationDisabled",
                f"{requirement.field} asks for {_article(name)} {name}, and this operator may not "
                f"make one: set integrations.{requirement.value}.enabled in the chart's values, or "
                "remove the field",
            )
        if name not in obs.served:
            return Shortfall(
                "KindMissing",
                f"{requirement.field} asks for {_article(name)} {name}, and this cluster has no "
                f"{requirement.kind.api_version} {name} that the operator could use: "
                f"{requirement.install or 'give it the rights'}, or remove the field",
            )
    if (told := stuck_removal(obs, clock)) is not None:
        return Shortfall("RemovalHeld", told)
    return _refused_by_a_gateway(obs, kinds.HTTP_ROUTE, kinds.GRPC_ROUTE)


def _requirements(model: ModelDeployment) -> list[_Requirement]:
    spec = model.spec
    asked = {
        _MONITORING: spec.monitoring.enabled,
        _TRIGGERS: spec.autoscaling and spec.autoscaling.triggers,
        _GATEWAY: spec.route and spec.route.gateway,
        _GRPC: spec.route and spec.route.gateway and spec.route.gateway.grpc_hostnames,
        _INGRESS: spec.route and spec.route.ingress,
    }
    return [requirement for requirement, wanted in asked.items() if wanted]


def _article(name: str) -> str:
    return "an" if name[0] in "AEIOUH" else "a"


def _refused_by_a_gateway(obs: Observation, *routes: Kind) -> Shortfall | None:
    """What the Gateways' controllers say of the present routes of these kinds."""
    refusals = (
        _refusal(kind, obs.children[kind.name]) for kind in routes if kind.name in obs.children
    )
    return next((refusal for refusal in refusals if refusal is not None), None)


def _refusal(kind: Kind, route: Json) -> Shortfall | None:
    status: Json = route.get("status") or {}
    parents: list[Json] = status.get("parents") or []
    for parent in parents:
        conditions: list[Json] = parent.get("conditions") or []
        for condition in conditions:
            if (
                condition["type"] in ("Accepted", "ResolvedRefs")
                and condition["status"] == "False"
                and condition.get("observedGeneration") == route["metadata"].get("generation")
            ):
                return Shortfall(
                    "RouteNotAccepted",
                    f"the Gateway '{parent['parentRef']['name']}' does not take the {kind.name}: "
                    f"{condition.get('message') or condition['reason']}; fix the Gateway or "
                    "spec.route",
                )
    return None


def routed(obs: Observation, children: Collection[str]) -> bool:
    """Whether one of these kinds of children leads to the model from outside the cluster."""
    ways = {kinds.HTTP_ROUTE.name, kinds.INGRESS.name}
    return not ways.isdisjoint(children) and _refused_by_a_gateway(obs, kinds.HTTP_ROUTE) is None

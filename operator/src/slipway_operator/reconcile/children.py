"""The wanted children of one ModelDeployment, and which existing ones are no longer wanted."""

from slipway_operator.api.model_deployment import Json
from slipway_operator.api.settings import Settings
from slipway_operator.api.spec import Autoscaling
from slipway_operator.build.deployment import deployment
from slipway_operator.build.hpa import horizontal_pod_autoscaler
from slipway_operator.build.networkpolicy import network_policy
from slipway_operator.build.pdb import pod_disruption_budget
from slipway_operator.build.podmonitor import pod_monitor
from slipway_operator.build.resolve import ResolvedRollout
from slipway_operator.build.revision import Revision
from slipway_operator.build.route import grpc_route, http_route, ingress
from slipway_operator.build.scaledobject import scaled_object
from slipway_operator.build.service import service
from slipway_operator.reconcile.difference import owned_by_others, owned_by_us
from slipway_operator.reconcile.kinds import INGRESS, OPTIONAL
from slipway_operator.reconcile.observation import Observation

_OPTIONAL = {kind.name for kind in OPTIONAL}
_INDISPENSABLE = ("Deployment", "Service")
_REPLICAS = ("spec", "replicas")
_SCALERS = {"HorizontalPodAutoscaler", "ScaledObject"}


def wanted_children(
    obs: Observation,
    revision: Revision,
    rollout: ResolvedRollout,
    settings: Settings,
    *,
    encrypted: bool,
) -> tuple[Json, ...]:
    """Every child, in the order in which to write them.

    ``encrypted``: the pods that answer take requests over TLS alone.
    """
    model = obs.model
    possible = (
        # First, since its pods take longest.
        deployment(model, revision.template, rollout, _replicas(obs)),
        service(model, encrypted=encrypted),
        network_policy(model, settings),
        pod_disruption_budget(model),
        horizontal_pod_autoscaler(model),
        scaled_object(model),
        http_route(model, encrypted=encrypted),
        grpc_route(model),
        ingress(model, obs.children.get(INGRESS.name), encrypted=encrypted),
        pod_monitor(model, settings),
    )
    return tuple(child for child in possible if child is not None and _possible(obs, child["kind"]))


def _possible(obs: Observation, kind: str) -> bool:
    """Whether a child of this kind can be had now."""
    if kind in _SCALERS and kind not in obs.children and obs.children.keys() & _SCALERS:
        # KEDA refuses a target that has an autoscaler, and two would pull it back and forth: the
        # other one, which is no longer wanted, goes first.
        return False
    return kind not in _OPTIONAL or kind in obs.served


def unwanted_kinds(obs: Observation, wanted: tuple[Json, ...]) -> tuple[str, ...]:
    """Kinds of children that exist and should not, unless they are about to go.

    One of a kind that cannot be had now is left alone: it may well be wanted, and rights that were
    lost for a while must take no route away.
    """
    kinds = {child["kind"] for child in wanted}
    return tuple(
        kind
        for kind, child in obs.children.items()
        if kind not in kinds
        and kind not in _INDISPENSABLE
        and (kind not in _OPTIONAL or kind in obs.served)
        and "deletionTimestamp" not in child["metadata"]
    )


def _replicas(obs: Observation) -> int | None:
    """The number to apply; None once an autoscaler owns the field.

    Until then its live value is applied: if its sole owner dropped the field, the API server would
    set it to 1.
    """
    spec = obs.model.spec
    live = obs.children.get("Deployment")
    if spec.autoscaling is None or spec.replicas == 0:
        return spec.replicas
    if live is None:
        return _starting(spec.replicas, spec.autoscaling)
    if live["spec"].get("replicas") == 0:
        # Zero of our own ends now; zero of KEDA, by whom the field is ours no more, stays.
        asleep = spec.autoscaling.min_replicas == 0 and not owned_by_us(live, _REPLICAS)
        return None if asleep else _starting(spec.replicas, spec.autoscaling)
    if owned_by_others(live, _REPLICAS):
        return None
    return live["spec"].get("replicas", 1)


def _starting(replicas: int, autoscaling: Autoscaling) -> int:
    return min(max(replicas, autoscaling.min_replicas), autoscaling.max_replicas)

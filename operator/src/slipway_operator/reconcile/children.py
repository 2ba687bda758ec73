"""The wanted children of one ModelDeployment, and which of those there are too many."""

from slipway_operator.api.model_deployment import Json
from slipway_operator.api.settings import Settings
from slipway_operator.build.deployment import deployment
from slipway_operator.build.hpa import horizontal_pod_autoscaler
from slipway_operator.build.networkpolicy import network_policy
from slipway_operator.build.pdb import pod_disruption_budget
from slipway_operator.build.resolve import ResolvedRollout
from slipway_operator.build.revision import Revision
from slipway_operator.build.service import service
from slipway_operator.reconcile.difference import owned_by_others
from slipway_operator.reconcile.observation import Observation

_OPTIONAL_KINDS = ("NetworkPolicy", "PodDisruptionBudget", "HorizontalPodAutoscaler")


def wanted_children(
    obs: Observation, revision: Revision, rollout: ResolvedRollout, settings: Settings
) -> tuple[Json, ...]:
    """Every child, in the order in which to write them."""
    model = obs.model
    optional = (
        network_policy(model, settings),
        pod_disruption_budget(model),
        horizontal_pod_autoscaler(model),
    )
    return (
        # First, since its pods take longest.
        deployment(model, revision.template, rollout, _replicas(obs)),
        service(model),
        *(child for child in optional if child is not None),
    )


def unwanted_kinds(obs: Observation, wanted: tuple[Json, ...]) -> tuple[str, ...]:
    """Kinds of optional children that exist and should not."""
    kinds = {child["kind"] for child in wanted}
    return tuple(kind for kind in _OPTIONAL_KINDS if kind in obs.children and kind not in kinds)


def _replicas(obs: Observation) -> int | None:
    """The number to apply; None once an autoscaler owns the field.

    Until then its live value is applied: to drop the field as its sole owner would set it to 1.
    """
    spec = obs.model.spec
    live = obs.children.get("Deployment")
    if spec.autoscaling is None or spec.replicas == 0:
        return spec.replicas
    if live is None or live["spec"].get("replicas") == 0:
        low, high = spec.autoscaling.min_replicas, spec.autoscaling.max_replicas
        return min(max(spec.replicas, low), high)
    if owned_by_others(live, ("spec", "replicas")):
        return None
    return live["spec"].get("replicas", 1)

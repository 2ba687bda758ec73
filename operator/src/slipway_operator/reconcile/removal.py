"""Children that were deleted and remain, since a finalizer holds them."""

from datetime import datetime, timedelta

from slipway_operator.api.model_deployment import Json
from slipway_operator.reconcile import kinds
from slipway_operator.reconcile.observation import Observation

REMOVAL_GRACE = timedelta(seconds=30)
"""How long the finalizer's owner may take before the status reports it."""

_HOLDERS = {
    kinds.SCALED_OBJECT.name: "the operator of KEDA, and nothing else scales the model meanwhile",
    kinds.HTTP_ROUTE.name: "the controller of the Gateway",
    kinds.GRPC_ROUTE.name: "the controller of the Gateway",
    kinds.INGRESS.name: "the controller of the Ingress",
}


def stuck_removal(obs: Observation, clock: datetime) -> str | None:
    """What has held up the removal of a child for too long, and the remedy; None if nothing has."""
    for kind, child in _held(obs):
        if clock - _deleted_at(child) >= REMOVAL_GRACE:
            return _told(kind, child)
    return None


def until_stuck(obs: Observation, clock: datetime) -> float | None:
    """Seconds until a removal that is under way has taken too long; None if there is none."""
    left = (REMOVAL_GRACE - (clock - _deleted_at(child)) for _, child in _held(obs))
    return min((time.total_seconds() for time in left if time > timedelta()), default=None)


def _held(obs: Observation) -> list[tuple[str, Json]]:
    """Deployment and Service are not among them: the operator never deletes them."""
    return [
        (kind, child)
        for kind, child in obs.children.items()
        if kind not in (kinds.DEPLOYMENT.name, kinds.SERVICE.name)
        and child["metadata"].get("deletionTimestamp")
        and child["metadata"].get("finalizers")
    ]


def _deleted_at(child: Json) -> datetime:
    return datetime.fromisoformat(child["metadata"]["deletionTimestamp"])


def _told(kind: str, child: Json) -> str:
    metadata = child["metadata"]
    holder = _HOLDERS.get(kind, "the controller that set it")
    address = f"{kind.lower()} {metadata['name']} -n {metadata['namespace']}"
    return (
        f"the {kind} '{metadata['name']}' was deleted at {metadata['deletionTimestamp']} and is "
        f"still there, held by the finalizer {', '.join(metadata['finalizers'])}: that is for "
        f"{holder}. See whether it runs; if it is gone for good, take the finalizer off: "
        f'kubectl patch {address} --type=merge -p \'{{"metadata":{{"finalizers":null}}}}\''
    )

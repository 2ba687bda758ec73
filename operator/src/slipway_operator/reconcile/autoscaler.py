"""A HorizontalPodAutoscaler that cannot read what it scales by, as its own status says."""

from datetime import datetime, timedelta

from slipway_operator.api.conditions import find
from slipway_operator.api.model_deployment import Json
from slipway_operator.reconcile import kinds
from slipway_operator.reconcile.observation import Observation

AUTOSCALER_GRACE = timedelta(minutes=5)
"""Pods that have just started have no metrics; Kubernetes itself allows them as long for these."""

_REMEDIES = {
    "FailedGetResourceMetric": "is there a metrics server, and do all containers of the pods "
    "request what is measured",
    "FailedGetPodsMetric": "does an adapter serve spec.autoscaling.podMetrics as custom metrics",
}
# The number of pods is 0, which switches an autoscaler off.
_SWITCHED_OFF = "ScalingDisabled"


def blind_autoscaler(obs: Observation, clock: datetime) -> str | None:
    """What an autoscaler lacks for too long, and where to look; None if nothing."""
    lack = _lack(obs)
    if lack is None or _left(lack, clock) > timedelta():
        return None
    metadata = obs.children[kinds.AUTOSCALER.name]["metadata"]
    remedy = _REMEDIES.get(lack["reason"])
    question = f": {remedy}? See" if remedy else ": see"
    return (
        f"the number of pods stays as it is, since the HorizontalPodAutoscaler says "
        f"{lack['reason']}{question} kubectl describe hpa {metadata['name']} "
        f"-n {metadata['namespace']}"
    )


def until_blind(obs: Observation, clock: datetime) -> float | None:
    """Seconds until an autoscaler has lacked it for too long; None if it lacks nothing."""
    lack = _lack(obs)
    left = timedelta() if lack is None else _left(lack, clock)
    return left.total_seconds() if left > timedelta() else None


def _lack(obs: Observation) -> Json | None:
    status: Json = obs.children.get(kinds.AUTOSCALER.name, {}).get("status") or {}
    active = find(status.get("conditions") or [], "ScalingActive")
    lacking = active.get("status") == "False" and active["reason"] != _SWITCHED_OFF
    return active if lacking else None


def _left(lack: Json, clock: datetime) -> timedelta:
    return AUTOSCALER_GRACE - (clock - datetime.fromisoformat(lack["lastTransitionTime"]))

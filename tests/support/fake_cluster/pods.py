"""What pods report: one constructor for each way of being."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]
Behaviour = Callable[[str], Json]
"""From the present time to the pod's status."""

_DONE = {"terminated": {"exitCode": 0, "reason": "Completed"}}


def container(name: str, state: Json, **more: Any) -> Json:
    return {"name": name, "ready": False, "restartCount": 0, "state": state, **more}


def _status(fetch: Json, serve: Json, *, ready: bool = False, **more: Any) -> Json:
    return {
        "phase": "Running" if ready else "Pending",
        "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        "initContainerStatuses": [fetch],
        "containerStatuses": [serve],
        **more,
    }


def _fetched() -> Json:
    return container("fetch", _DONE, ready=True)


def _not_yet() -> Json:
    return container("serve", {"waiting": {"reason": "PodInitializing"}})


def ready(_: str) -> Json:
    serve = container("serve", {"running": {}}, ready=True, started=True)
    return _status(_fetched(), serve, ready=True)


def loading(_: str) -> Json:
    return _status(_fetched(), container("serve", {"running": {}}))


def fetching(_: str) -> Json:
    return _status(container("fetch", {"running": {}}), _not_yet())


def fetching_since(now: str) -> Json:
    """As ``fetching``; the download began when the pod was made."""
    return _status(container("fetch", {"running": {"startedAt": now}}), _not_yet())


def termination(exit_code: int, message: str | None, at: str, reason: str = "Error") -> Json:
    told = {} if message is None else {"message": json.dumps({"reason": "x", "message": message})}
    return {"exitCode": exit_code, "reason": reason, "finishedAt": at, **told}


def fetch_ends(
    exit_code: int, message: str | None = "the store says no", restarts: int = 0, **more: str
) -> Behaviour:
    """fetch ends again and again, and waits in the kubelet's back-off now."""

    def status(now: str) -> Json:
        fetch = container(
            "fetch",
            {"waiting": {"reason": "CrashLoopBackOff"}},
            lastState={"terminated": termination(exit_code, message, now, **more)},
            restartCount=restarts,
        )
        return _status(fetch, _not_yet())

    return status


def serve_ends(
    exit_code: int, message: str | None = "the model says no", restarts: int = 0, **more: str
) -> Behaviour:
    """serve ended, and was not started again yet."""

    def status(now: str) -> Json:
        serve = container(
            "serve",
            {"terminated": termination(exit_code, message, now, **more)},
            restartCount=restarts,
        )
        return _status(_fetched(), serve)

    return status


def waits(reason: str, message: str = "", name: str = "fetch") -> Behaviour:
    """A container waits for the reason that the kubelet gives."""

    def status(_: str) -> Json:
        waiting = container(name, {"waiting": {"reason": reason, "message": message}})
        return _status(waiting, _not_yet()) if name == "fetch" else _status(_fetched(), waiting)

    return status


def unschedulable(now: str) -> Json:
    return {
        "phase": "Pending",
        "conditions": [
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
                "lastTransitionTime": now,
            }
        ],
    }


def evicted(now: str) -> Json:
    return {
        "phase": "Failed",
        "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": now}],
        "reason": "Evicted",
        "message": "The node was low on resource: ephemeral-storage.",
    }


def creating(now: str) -> Json:
    """Given to a node, which has not made its sandbox yet."""
    return {
        "phase": "Pending",
        "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": now},
            {"type": "PodReadyToStartContainers", "status": "False"},
            {"type": "Ready", "status": "False", "reason": "ContainersNotReady"},
        ],
        "initContainerStatuses": [container("fetch", {"waiting": {"reason": "PodInitializing"}})],
        "containerStatuses": [_not_yet()],
    }


def on_a_lost_node(_: str) -> Json:
    """As the kubelet left it, but for the condition that the node controller changes."""
    status = ready(_)
    return {**status, "conditions": [{"type": "Ready", "status": "False"}]}

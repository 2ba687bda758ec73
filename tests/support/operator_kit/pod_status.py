"""Pod statuses as a kubelet reports them for a model pod: init container fetch, container serve."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]
Behaviour = Callable[[], Json]
"""Makes the status of a pod, at the moment when it is reported."""


def now() -> str:
    """RFC 3339 with whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _conditions(**statuses: bool) -> list[Json]:
    return [
        {"type": kind, "status": str(value), "lastTransitionTime": now()}
        for kind, value in statuses.items()
    ]


def _status(
    phase: str, fetch: Json, serve: Json, *, initialized: bool, ready: bool, **more: Any
) -> Json:
    return {
        "phase": phase,
        "startTime": now(),
        "podIP": "10.99.0.1",
        "podIPs": [{"ip": "10.99.0.1"}],
        "reason": None,
        "message": None,
        "conditions": _conditions(
            PodReadyToStartContainers=True,
            Initialized=initialized,
            ContainersReady=ready,
            Ready=ready,
        ),
        "initContainerStatuses": [_container("fetch", fetch, ready=initialized)],
        "containerStatuses": [_container("serve", serve, ready=ready)],
        **more,
    }


def _container(name: str, about: Json, *, ready: bool) -> Json:
    return {
        "name": name,
        "image": "slipway-runtime:test",
        "imageID": "sha256:0",
        "ready": ready,
        "restartCount": about.get("restarts", 0),
        "state": about["state"],
        "lastState": about.get("last", {}),
    }


def _ended(code: int, reason: str = "", message: str = "") -> Json:
    return {
        "terminated": {
            "exitCode": code,
            "reason": reason or ("Completed" if code == 0 else "Error"),
            "message": message,
            "startedAt": now(),
            "finishedAt": now(),
        }
    }


_FETCHED = 0
_NOT_YET: Json = {"state": {"waiting": {"reason": "PodInitializing"}}}


def _running() -> Json:
    return {"running": {"startedAt": now()}}


def told(reason: str, message: str, **more: str) -> str:
    """The termination message that the runtime leaves."""
    return json.dumps({"reason": reason, "message": message, **more})


def ready() -> Json:
    """Fetched, verified, loaded, warm."""
    return _status(
        "Running",
        {"state": _ended(_FETCHED)},
        {"state": _running()},
        initialized=True,
        ready=True,
    )


def fetching() -> Json:
    """The download is under way."""
    return _status("Pending", {"state": _running()}, _NOT_YET, initialized=False, ready=False)


def loading() -> Json:
    """Fetched; the session is being made."""
    return _status(
        "Running",
        {"state": _ended(_FETCHED)},
        {"state": _running()},
        initialized=True,
        ready=False,
    )


def fetch_fails(code: int, reason: str, message: str, restarts: int = 0) -> Behaviour:
    """Fetch ended with an exit code and the runtime's termination message."""

    def report() -> Json:
        end = _ended(code, message=told(reason, message))
        waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
        about = (
            {"state": end}
            if not restarts
            else {"state": waiting, "last": end, "restarts": restarts}
        )
        return _status("Pending", about, _NOT_YET, initialized=False, ready=False)

    return report


def serve_fails(
    code: int, restarts: int, message: str = "", container_reason: str = ""
) -> Behaviour:
    """Serve ended and waits for its next start; ``OOMKilled`` is a container reason."""

    def report() -> Json:
        about = {
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
            "last": _ended(code, container_reason, message),
            "restarts": restarts,
        }
        return _status("Running", {"state": _ended(_FETCHED)}, about, initialized=True, ready=False)

    return report


def out_of_memory(restarts: int) -> Behaviour:
    """The kernel ended serve; it left no message."""
    return serve_fails(137, restarts, container_reason="OOMKilled")


def cannot_start(reason: str, message: str) -> Behaviour:
    """A container that waits, as for an image or a Secret."""

    def report() -> Json:
        waiting = {"state": {"waiting": {"reason": reason, "message": message}}}
        return _status("Pending", waiting, _NOT_YET, initialized=False, ready=False)

    return report


def creating() -> Json:
    """Given to the node, which cannot make its sandbox yet, as while a volume is not mounted."""
    waiting = {"state": {"waiting": {"reason": "PodInitializing"}}}
    status = _status("Pending", waiting, _NOT_YET, initialized=False, ready=False)
    conditions = [c for c in status["conditions"] if c["type"] != "PodReadyToStartContainers"]
    return {**status, "conditions": [*conditions, *_conditions(PodReadyToStartContainers=False)]}

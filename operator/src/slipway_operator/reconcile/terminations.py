"""Works out why a container ended."""

import json
import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from slipway_operator.api.model_deployment import Json
from slipway_operator.api.reasons import CLASS_OF, REASON_OF_EXIT_CODE, FailureClass, Reason
from slipway_operator.reconcile.noise import without_noise

_OWN = ("fetch", "serve")
_SIGKILL = 128 + 9
_NEVER_RAN = ("StartError", "ContainerCannotRun")


@dataclass(frozen=True)
class Cause:
    """What ended a container."""

    reason: Reason
    failure_class: FailureClass
    message: str


def cause_of(pod: Json, container: Json, ended: Json) -> Cause:
    """What a container's ``terminated`` state says of its end.

    Args:
        pod: the pod, for the probes of its spec.
        container: the container's status.
        ended: the state to read, of this run or of the last.
    """
    name: str = container["name"]
    # The codes are a contract with our own two containers; in others, such as a mesh's, they mean
    # something else.
    own = name in _OWN
    exit_code: int = ended.get("exitCode", -1)
    if ended.get("reason") == "OOMKilled" or (own and _killed_by_the_kernel(pod, name, ended)):
        reason = Reason.OUT_OF_MEMORY
        message = f"container '{name}' ran out of memory" + (
            ": raise spec.runtime.resources.limits.memory" if name == "serve" else ""
        )
        return Cause(reason, CLASS_OF[reason], message)
    reason = REASON_OF_EXIT_CODE.get(exit_code, Reason.CRASH) if own else Reason.CRASH
    told = _message_of(ended.get("message")) if own else None
    message = told or _untold(container, ended, exit_code)
    if name == "serve" and reason is Reason.DIGEST_MISMATCH:
        # fetch has verified the artifact in this very pod: the file changed on the node since.
        damaged = f"the artifact in the pod's cache is damaged: {message}"
        return Cause(Reason.CRASH, FailureClass.AMBIGUOUS, damaged)
    return Cause(reason, CLASS_OF[reason], message)


def _killed_by_the_kernel(pod: Json, name: str, ended: Json) -> bool:
    """Whether nobody but the kernel, which does so for want of memory, can have killed it.

    containerd may hear of an OOM kill only after the exit, and then gives the reason of any failure
    (containerd issues 8180 and 12260). In a pod that stays the kubelet kills only where a probe has
    failed as often as it may.
    """
    if ended.get("exitCode") != _SIGKILL or ended.get("reason") != "Error":
        return False
    began, over = ended.get("startedAt"), ended.get("finishedAt")
    if not began or not over:
        return False
    ran = datetime.fromisoformat(over) - datetime.fromisoformat(began)
    return ran.total_seconds() < _patience_of_probes(pod, name)


def _patience_of_probes(pod: Json, name: str) -> float:
    """Seconds that a container has run at least before a probe can have had it killed."""
    spec: Json = pod.get("spec", {})
    containers: list[Json] = [*spec.get("initContainers", ()), *spec.get("containers", ())]
    container = next((c for c in containers if c["name"] == name), None)
    if container is None:
        return 0
    probes: list[Json | None] = [container.get("startupProbe"), container.get("livenessProbe")]
    # The first look may come at once.
    return min(
        (p.get("periodSeconds", 10) * (p.get("failureThreshold", 3) - 1) for p in probes if p),
        default=math.inf,
    )


def _untold(container: Json, ended: Json, exit_code: int) -> str:
    """The message for a container that left none of its own."""
    name: str = container["name"]
    if name == "serve" and exit_code == 0 and not container.get("started"):
        return (
            "container 'serve' was told to end, as when a probe fails: loading the model may take "
            "longer than spec.runtime.startupTimeoutSeconds, or than the pool allows"
        )
    said = f"container '{name}' ended with exit code {exit_code}"
    reason = ended.get("reason") or ""
    if reason in _NEVER_RAN:
        # Then the message is the container runtime's, such as: exec: "slipway-runtime": not found.
        return f"{said} ({reason}): {without_noise(ended.get('message') or '')}"
    if reason not in ("", "Error", "Completed"):
        return f"{said} ({reason})"
    if exit_code == _SIGKILL:
        return f"{said}: it was killed, for want of memory or because a probe had failed"
    return said


def _message_of(raw: str | None) -> str | None:
    """The message that the runtime left; None when there is none or it is not ours."""
    if not raw:
        return None
    try:
        told = json.loads(raw)
    except ValueError:
        return None
    if not isinstance(told, dict):
        return None
    message = cast("dict[str, Any]", told).get("message")
    return message if isinstance(message, str) else None

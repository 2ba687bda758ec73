"""Reads from pods, ReplicaSets and the Deployment why a revision does not become ready."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from slipway_operator.api.model_deployment import Json
from slipway_operator.api.reasons import CLASS_OF, REASON_OF_EXIT_CODE, FailureClass, Reason
from slipway_operator.reconcile.noise import without_noise
from slipway_operator.reconcile.terminations import cause_of

_MESSAGE_LIMIT = 1024

_WAITING: dict[str, Reason] = {
    "ErrImagePull": Reason.IMAGE_PULL,
    "ImagePullBackOff": Reason.IMAGE_PULL,
    "ErrImageNeverPull": Reason.IMAGE_PULL,
    "InvalidImageName": Reason.IMAGE_PULL,
    "ErrImageInspect": Reason.IMAGE_PULL,
    "RegistryUnavailable": Reason.IMAGE_PULL,
    "CreateContainerConfigError": Reason.CONTAINER_CONFIG,
    "CreateContainerError": Reason.CONTAINER_CONFIG,
    "RunContainerError": Reason.CONTAINER_CONFIG,
}

_NODE_ENDS = {"Terminated", "NodeShutdown", "Shutdown", "NodeLost", "Preempting"}

# The most telling first, when several pods or containers have something to say.
_WEIGHT = {
    FailureClass.INTRINSIC: 0,
    FailureClass.AMBIGUOUS: 1,
    FailureClass.ENVIRONMENTAL: 2,
}


@dataclass(frozen=True)
class Evidence:
    """One thing that keeps a pod from being ready.

    Attributes:
        restarts: how often the container was started again.
        time: when it happened (RFC 3339); None for what still is so.
        born: when the pod was created (RFC 3339).
        pod: name of the pod; of several that say the same, the first by name.
    """

    reason: Reason
    failure_class: FailureClass
    message: str
    container: str | None = None
    exit_code: int | None = None
    restarts: int = 0
    time: str | None = None
    born: str | None = None
    pod: str | None = None


def strongest(evidence: list[Evidence]) -> Evidence | None:
    """The evidence to show: intrinsic, then ambiguous, then environmental; most restarts first.

    The last two terms make the choice stable where several weigh the same.
    """
    best = min(
        evidence,
        key=lambda e: (_WEIGHT[e.failure_class], -e.restarts, e.reason, e.message),
        default=None,
    )
    if best is None or best.pod is None:
        return best
    # Pods that crash in turn alternate in having restarted most; the status stays the same.
    same = [e.pod for e in evidence if e.pod and _what(e) == _what(best)]
    return replace(best, pod=min(same))


def _what(evidence: Evidence) -> tuple[str | int | None, ...]:
    return (evidence.reason, evidence.message, evidence.container, evidence.exit_code)


def collect(
    pods: list[Json],
    replica_sets: Iterable[Json],
    mount_failures: Mapping[str, str] = MappingProxyType({}),
) -> list[Evidence]:
    """Everything that one revision's pods and ReplicaSets say against it.

    ``mount_failures`` are what Events say, by the uid of the pod.
    """
    found = [item for pod in pods for item in _of_pod(pod)]
    found.extend(
        _evidence(
            Reason.VOLUME_MOUNT,
            f"a volume of the pod cannot be mounted: {told}",
        )
        for pod in pods
        if (told := mount_failures.get(pod["metadata"].get("uid", ""))) is not None
    )
    evicted = sum(e.reason is Reason.EVICTED for e in found)
    # Such a pod is never started again; each one in its place counts as a restart.
    found = [replace(e, restarts=evicted) if e.reason is Reason.EVICTED else e for e in found]
    for replica_set in replica_sets:
        found.extend(_of_replica_set(replica_set))
    return found


def _evidence(reason: Reason, message: str, **more: Any) -> Evidence:
    return Evidence(reason, CLASS_OF[reason], message[:_MESSAGE_LIMIT], **more)


def _of_replica_set(replica_set: Json) -> Iterator[Evidence]:
    for condition in replica_set.get("status", {}).get("conditions", ()):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            yield _evidence(
                Reason.POD_CREATION_DENIED,
                f"the pods cannot be created: {condition.get('message', '')}",
            )


def _of_pod(pod: Json) -> Iterator[Evidence]:
    status: Json = pod.get("status", {})
    if status.get("phase") == "Failed" and status.get("reason"):
        yield _of_a_pod_given_up(pod["metadata"], status["reason"], status.get("message", ""))
        return
    for condition in status.get("conditions", ()):
        if (
            condition["type"] == "PodScheduled"
            and condition["status"] == "False"
            and condition.get("reason") == "Unschedulable"
        ):
            yield _evidence(
                Reason.UNSCHEDULABLE,
                f"no node fits the pod: {condition.get('message', '')}",
            )
    if _given_up_by_its_node(status):
        node = pod.get("spec", {}).get("nodeName", "")
        yield _evidence(
            Reason.NODE_LOST,
            f"the node '{node}' no longer reports, so its pod counts as lost; it is replaced once "
            "Kubernetes has given up hope, by default after five minutes",
        )
        return
    for container in _containers(status):
        for item in _of_container(pod, container):
            metadata: Json = pod["metadata"]
            yield replace(item, born=metadata.get("creationTimestamp"), pod=metadata.get("name"))


def _of_a_pod_given_up(metadata: Json, reason: str, message: str) -> Evidence:
    """What the kubelet gave up, or never took: the node is the cause, except for an eviction."""
    if reason == "Evicted":
        return _evidence(Reason.EVICTED, f"pod evicted: {message}")
    told = f"{reason}: {message}"
    if reason in _NODE_ENDS:
        return _evidence(Reason.NODE_LOST, f"the node that ran the pod shut down: {told}")
    return _evidence(
        Reason.UNSCHEDULABLE,
        f"the node that the pod '{metadata.get('name', '')}' was given to turned it away: {told}",
    )


def _containers(status: Json) -> Iterator[Json]:
    yield from status.get("initContainerStatuses", ())
    yield from status.get("containerStatuses", ())


def _given_up_by_its_node(status: Json) -> bool:
    """Whether the node controller has called the pod not ready, and not its kubelet.

    It changes the one condition and leaves what the kubelet said last about the containers.
    """
    serving: list[Json] = status.get("containerStatuses", [])
    return (
        status.get("phase") == "Running"
        and bool(serving)
        and all(container.get("ready") for container in serving)
        and any(
            condition["type"] == "Ready"
            and condition["status"] != "True"
            and condition.get("reason") != "ReadinessGatesNotReady"
            for condition in status.get("conditions", ())
        )
    )


def not_started_since(pod: Json) -> str | None:
    """When the pod was given to a node (RFC 3339), if that has not begun to start containers."""
    status: Json = pod.get("status", {})
    conditions: dict[str, Json] = {c["type"]: c for c in status.get("conditions", ())}
    scheduled = conditions.get("PodScheduled", {})
    if (
        status.get("phase") != "Pending"
        or scheduled.get("status") != "True"
        or conditions.get("PodReadyToStartContainers", {}).get("status") == "True"
        or any("waiting" not in c.get("state", {"waiting": {}}) for c in _containers(status))
    ):
        return None
    return scheduled.get("lastTransitionTime") or pod["metadata"].get("creationTimestamp")


def _of_container(pod: Json, container: Json) -> Iterator[Evidence]:
    if container.get("ready"):
        return
    name: str = container["name"]
    restarts: int = container.get("restartCount", 0)
    state: Json = container.get("state", {})
    waiting: Json = state.get("waiting") or {}
    if (reason := _WAITING.get(waiting.get("reason", ""))) is not None:
        # The kubelet alternates between the names of one state, such as ErrImagePull and
        # ImagePullBackOff.
        what = (
            f"the image '{container.get('image', '')}' cannot be pulled"
            if reason is Reason.IMAGE_PULL
            else waiting["reason"]
        )
        yield _evidence(
            reason,
            f"container '{name}' cannot start: {what}: {without_noise(waiting.get('message', ''))}",
            container=name,
            restarts=restarts,
        )
        return
    # A container that runs again is no new evidence: what ended its last run still counts.
    last: Json = container.get("lastState") or {}
    ended: Json = state.get("terminated") or last.get("terminated") or {}
    if ended and (ended.get("exitCode") != 0 or name == "serve"):
        cause = cause_of(pod, container, ended)
        yield Evidence(
            reason=cause.reason,
            failure_class=cause.failure_class,
            message=cause.message[:_MESSAGE_LIMIT],
            container=name,
            exit_code=ended.get("exitCode", -1),
            restarts=restarts,
            time=ended.get("finishedAt"),
        )


def damaged_cache(pod: Json) -> bool:
    """Whether ``serve`` found an artifact that ``fetch`` had verified to be wrong.

    Init containers do not run again when a container restarts, so only a new pod can repair it.
    """
    for container in pod.get("status", {}).get("containerStatuses", ()):
        if container["name"] != "serve":
            continue
        for state in (container.get("state", {}), container.get("lastState", {})):
            ended: Json = state.get("terminated") or {}
            if REASON_OF_EXIT_CODE.get(ended.get("exitCode", 0)) is Reason.DIGEST_MISMATCH:
                return True
    return False


def given_up_at(pod: Json) -> str | None:
    """When a pod was evicted, or given up by its node (RFC 3339); None of any other pod."""
    status: Json = pod.get("status", {})
    if status.get("phase") != "Failed":
        return None
    changed = [c.get("lastTransitionTime") or "" for c in status.get("conditions", ())]
    return max((pod["metadata"].get("creationTimestamp") or "", *changed))


def fetched(pod: Json) -> bool:
    """Whether this pod's ``fetch`` has verified the artifact."""
    for container in pod.get("status", {}).get("initContainerStatuses", ()):
        if container["name"] == "fetch":
            ended: Json = container.get("state", {}).get("terminated") or {}
            return bool(ended.get("exitCode") == 0)
    return False


def has_started(pod: Json) -> bool:
    """Whether this pod's ``serve`` was ready: its startup probe asks for just that."""
    return any(
        container["name"] == "serve" and container.get("started")
        for container in pod.get("status", {}).get("containerStatuses", ())
    )

"""Where the pods of a revision stand on their way to ready: phases, counts and words."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from slipway_operator.api.model_deployment import Json
from slipway_operator.api.reasons import Reason
from slipway_operator.api.status import Progress
from slipway_operator.reconcile.evidence import collect, fetched

_GIGABYTE = 10**9
_MEGABYTE = 10**6


class Phase(StrEnum):
    """How far a pod has come. In the order in which they are reported."""

    FAILING = "failing"
    """Something speaks against it; also while it is started once more."""

    PENDING = "pending"
    """It waits for a node, for its volumes or for its image."""

    FETCHING = "fetching"
    """``fetch`` downloads and verifies the artifact."""

    LOADING = "loading"
    """``serve`` makes the session and runs it once."""

    READY = "ready"
    """It answers requests."""


@dataclass(frozen=True)
class Fetched:
    """How far the download of one pod has come.

    Attributes:
        count: bytes so far.
        total: size of the artifact in bytes, if the source told it.
    """

    count: int
    total: int | None = None

    def __str__(self) -> str:
        """In words, as 4.1 of 12.0 GB."""
        largest = self.total or self.count
        unit, name = (_GIGABYTE, "GB") if largest >= _GIGABYTE else (_MEGABYTE, "MB")
        of_total = "" if self.total is None else f" of {self.total / unit:.1f}"
        return f"{self.count / unit:.1f}{of_total} {name}"


def phase_of(pod: Json) -> Phase:
    """The phase of one pod, from its status."""
    status: Json = pod.get("status", {})
    conditions = {c["type"]: c["status"] for c in status.get("conditions", ())}
    if conditions.get("Ready") == "True":
        return Phase.READY
    over = status.get("phase") == "Failed"
    if over or any(item.reason is not Reason.UNSCHEDULABLE for item in collect([pod], ())):
        return Phase.FAILING
    if fetched(pod):
        return Phase.LOADING
    return Phase.PENDING if fetching_since(pod) is None else Phase.FETCHING


def fetching_since(pod: Json) -> str | None:
    """When this run of ``fetch`` began (RFC 3339, or empty where unknown); None if none runs."""
    return _running_since(pod, "initContainerStatuses", "fetch")


def _running_since(pod: Json, statuses: str, name: str) -> str | None:
    for container in pod.get("status", {}).get(statuses, ()):
        running: Json | None = container.get("state", {}).get("running")
        if container["name"] == name and running is not None:
            return running.get("startedAt", "")
    return None


def progress(pods: Sequence[Json], download: Fetched | None) -> Progress:
    """The counts for the status."""
    counts = Counter(phase_of(pod) for pod in pods)
    return Progress(
        **{phase.value: counts[phase] for phase in Phase},
        fetched_bytes=download and download.count,
        total_bytes=download and download.total,
    )


def not_ready_yet(pods: Sequence[Json], download: Fetched | None) -> str:
    """What keeps the pods that are not ready, as "1 pending, 2 fetching (0.3 of 1.2 GB)"."""
    counts = Counter(phase_of(pod) for pod in pods)
    told = {Phase.FETCHING: f" ({download})"} if download else {}
    return ", ".join(
        f"{counts[phase]} {phase}{told.get(phase, '')}"
        for phase in Phase
        if phase is not Phase.READY and counts[phase]
    )


def at_the_deadline(pods: Sequence[Json], download: Fetched | None, now: str) -> str:
    """What the pods without evidence against them were doing when the deadline passed."""
    doing = {
        Phase.PENDING: "not started yet",
        Phase.FETCHING: "still fetching the artifact",
        Phase.LOADING: "still loading the model",
    }
    told: list[str] = []
    for phase, words in doing.items():
        here = [pod for pod in pods if phase_of(pod) is phase]
        if not here:
            continue
        times = [
            _running_since(p, "containerStatuses", "serve")
            if phase is Phase.LOADING
            else fetching_since(p)
            for p in here
        ]
        since = min((time for time in times if time), default=None)
        lasted = datetime.fromisoformat(now) - datetime.fromisoformat(since) if since else None
        for_long = f" after {lasted.total_seconds():.0f} s" if lasted else ""
        so_far = f" ({download})" if download and phase is Phase.FETCHING else ""
        told.append(f"{len(here)} of {len(pods)} pods {words}{for_long}{so_far}")
    return ", ".join(told)

"""How a rollout goes, as a ModelDeployment and its pods tell it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

Json = Mapping[str, Any]

_DIGEST_ANNOTATION = "slipway.dev/digest"
_STAGES = ("scheduling", "fetching", "loading", "ready")

State = Literal["under way", "ready", "failed", "suspended"]


@dataclass(frozen=True)
class Progress:
    """Where a rollout stands, and a sentence about it; ``reason`` is that of the status."""

    state: State
    reason: str
    message: str


def condition(model: Json, kind: str) -> Json:
    """Return the condition of that type, or an empty one."""
    found = cast("Sequence[Json]", status(model).get("conditions") or [])
    nothing: Json = {}
    return next((c for c in found if c["type"] == kind), nothing)


def status(model: Json) -> Json:
    """Return the status, empty where the operator has not written one yet."""
    return cast("Json", model.get("status") or {})


def section(model: Json, name: str) -> Json:
    """Return a part of the status, such as ``serving``; empty where it is not there."""
    return cast("Json", status(model).get(name) or {})


def progress(model: Json) -> Progress:
    """Judge a ModelDeployment; what its status says of an earlier generation does not count."""
    seen, wanted = status(model).get("observedGeneration"), model["metadata"]["generation"]
    if seen != wanted:
        return Progress("under way", "Waiting", "waiting for the operator to see the change")
    ready, stalled = condition(model, "Ready"), condition(model, "Stalled")
    told = str(ready.get("reason", "")), str(ready.get("message", ""))
    if model["spec"].get("suspend"):
        return Progress("suspended", "Suspended", told[1])
    if stalled.get("status") == "True":
        return Progress("failed", *told)
    return Progress("ready" if ready.get("status") == "True" else "under way", *told)


def stages(pods: Sequence[Json], digest: str) -> str:
    """Return how many pods of a digest are at which stage: ``1 fetching, 1 ready``."""
    counts: Counter[str] = Counter(
        _stage(pod)
        for pod in pods
        if pod["metadata"].get("annotations", {}).get(_DIGEST_ANNOTATION) == digest
        and "deletionTimestamp" not in pod["metadata"]
    )
    return ", ".join(f"{counts[stage]} {stage}" for stage in _STAGES if counts[stage])


def revision_before(model: Json) -> int | None:
    """Return the newest good revision other than the one that was asked for, if there is one.

    While another than the target is served already, as after a failed rollout, that is the one.
    """
    target = section(model, "target").get("revision")
    serving = section(model, "serving").get("revision")
    if serving is not None and target is not None and serving < target:
        return int(serving)
    entries = cast("Sequence[Json]", status(model).get("history") or [])
    good = [int(entry["revision"]) for entry in entries if entry["outcome"] == "Good"]
    return max((number for number in good if target is None or number < target), default=None)


def digest_of(model: Json, revision: int) -> str | None:
    """Return the digest of a revision in the history, None where it is not there."""
    entries = cast("Sequence[Json]", status(model).get("history") or [])
    return next((str(e["digest"]) for e in entries if e["revision"] == revision), None)


def _stage(pod: Json) -> str:
    told = cast("Json", pod.get("status") or {})
    if any(c["type"] == "Ready" and c["status"] == "True" for c in told.get("conditions", [])):
        return "ready"
    fetch = cast("Sequence[Json]", told.get("initContainerStatuses") or [])
    if not fetch:
        return "scheduling"
    terminated = cast("Json", fetch[0].get("state", {})).get("terminated")
    done = terminated is not None and terminated.get("exitCode") == 0
    return "loading" if done else "fetching"

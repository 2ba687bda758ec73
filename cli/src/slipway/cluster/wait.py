"""Waiting until a rollout has ended, reporting its progress."""

from __future__ import annotations

import time
from collections.abc import Callable

from slipway.cluster import rollout
from slipway.cluster.kubectl import Cluster, Json
from slipway.errors import AccessDenied, RolloutFailed, Unavailable

_POLL_SECONDS = 1.0
_GRACE_SECONDS = 15.0
_SILENCE_SECONDS = 30.0


def until_ready(
    cluster: Cluster,
    name: str,
    digest: str,
    timeout: float,
    tell: Callable[[str], None],
    wanted: Callable[[Json], bool],
    before: Json | None = None,
) -> Json:
    """Return the ModelDeployment once it is ready as ``wanted``; ``digest`` is what rolls out.

    ``tell`` is called once with each new sentence about the progress. ``timeout`` in seconds.
    ``before`` is what stood there when an annotation was written: since that moves no generation, a
    failure that was told then counts only when the operator has had time to tell something else.

    Raises:
        RolloutFailed: the operator gave up, or the time is over; with the status's own reason.
        NotFound, AccessDenied: what kubectl said of the ModelDeployment.
        Unavailable: so it said for half a minute.
    """
    begun = time.monotonic()
    old = rollout.progress(before) if before is not None else None
    last = ""
    answered = begun
    while True:
        try:
            model, stages = cluster.get(name), _stages(cluster, name, digest)
            answered = time.monotonic()
        except Unavailable:
            # The rollout goes on meanwhile, as when the control plane is upgraded.
            if time.monotonic() - answered > _SILENCE_SECONDS:
                raise
            time.sleep(_POLL_SECONDS)
            continue
        progress = rollout.progress(model)
        if progress.state == "ready" and wanted(model):
            return model
        patient = progress == old and time.monotonic() - begun < _GRACE_SECONDS
        if progress.state in ("failed", "suspended") and not patient:
            raise RolloutFailed(
                f"{progress.reason}: {progress.message}",
                f"slipway status {name} has the whole of it",
            )
        said = f"{progress.message} ({stages})" if stages else progress.message
        if said != last:
            tell(said)
            last = said
        if time.monotonic() - begun >= timeout:
            raise RolloutFailed(
                f"not ready after {timeout:g} s; {progress.reason}: {said}",
                "the rollout goes on without this command: --timeout waits for longer",
            )
        time.sleep(_POLL_SECONDS)


def _stages(cluster: Cluster, name: str, digest: str) -> str:
    """Return how many pods are at which stage; empty for those who may not list pods."""
    try:
        return rollout.stages(cluster.pods(name), digest)
    except AccessDenied:
        return ""

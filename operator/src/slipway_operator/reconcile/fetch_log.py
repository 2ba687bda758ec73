"""Reads from the log of ``fetch`` how far a download has come, where the configuration allows it.

A pod can tell nothing through the API while a container runs but by its log. It is read on demand:
of one pod of a model, only while that fetches, and only at intervals. What was read is passed on in
steps, so that a long download changes the status a dozen times and not a hundred.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, cast

from slipway_operator.reconcile.decide import LOOK_SECONDS
from slipway_operator.reconcile.kube import ApiError, TransportError
from slipway_operator.reconcile.observation import Observation
from slipway_operator.reconcile.progress import Fetched, Phase, fetching_since, phase_of

logger = logging.getLogger(__name__)

_STEP = 0.1  # of the whole artifact
_SELDOM = timedelta(seconds=60)
_MOST_REMEMBERED = 1024


class _Reader(Protocol):
    async def log_tail(self, namespace: str, pod: str, container: str) -> str: ...


@dataclass(frozen=True)
class _Known:
    read: datetime
    told: datetime
    fetched: Fetched | None


class FetchLog:
    """Remembers what was read, so that repeated reconciles cost few requests."""

    def __init__(self, reader: _Reader, clock: Callable[[], datetime]) -> None:
        self._reader = reader
        self._clock = clock
        self._known: dict[str, _Known] = {}

    async def download(self, obs: Observation) -> Fetched | None:
        """The progress of the pod that has fetched longest; None when no pod reports any."""
        fetching = [
            (fetching_since(pod) or "", pod["metadata"]["name"], pod["metadata"]["uid"])
            for pod in obs.pods
            if phase_of(pod) is Phase.FETCHING
        ]
        if not fetching:
            return None
        _, name, uid = min(fetching)
        now = self._clock()
        known = self._known.get(uid)
        if known is None or now - known.read >= timedelta(seconds=LOOK_SECONDS):
            fresh = await self._read(obs.model.namespace, name)
            known = _step(known, fresh, now)
            self._known[uid] = known
            while len(self._known) > _MOST_REMEMBERED:
                del self._known[next(iter(self._known))]
        return known.fetched

    async def _read(self, namespace: str, pod: str) -> Fetched | None:
        try:
            return told_in(await self._reader.log_tail(namespace, pod, "fetch"))
        except (ApiError, TransportError) as error:
            # Less is known then; nothing else depends on it.
            logger.warning("the log of a pod could not be read", extra={"error": str(error)})
            return None


def _step(known: _Known | None, fresh: Fetched | None, now: datetime) -> _Known:
    """What to report from here on: the new count only where it is worth a write."""
    if known is None or known.fetched is None or fresh is None:
        kept = fresh if known is None else fresh or known.fetched
        return _Known(now, now, kept)
    size = fresh.total or known.fetched.count or 1
    far = abs(fresh.count - known.fetched.count) >= _STEP * size
    if far or now - known.told >= _SELDOM:
        return _Known(now, now, fresh)
    return _Known(now, known.told, known.fetched)


def told_in(log: str) -> Fetched | None:
    """The latest count in the lines that the runtime wrote; None when there is none."""
    for line in reversed(log.splitlines()):
        try:
            parsed = json.loads(line)
        except ValueError:
            continue
        if not isinstance(parsed, dict):
            continue
        fields = cast("dict[str, Any]", parsed)
        count, total = fields.get("fetched_bytes"), fields.get("total_bytes")
        if isinstance(count, int) and count >= 0:
            return Fetched(count, total if isinstance(total, int) and total >= count else None)
    return None

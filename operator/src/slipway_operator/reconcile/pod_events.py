"""Reads the Events of a pod that does not start: its status does not say why.

The kubelet reports a volume that it cannot mount in Events alone. They are read on demand: of one
pod of a model, only while it waits between the scheduler and its sandbox, and only at intervals.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from slipway_operator.api.model_deployment import Json
from slipway_operator.reconcile.decide import LOOK_SECONDS
from slipway_operator.reconcile.evidence import not_started_since
from slipway_operator.reconcile.kube import ApiError, TransportError
from slipway_operator.reconcile.noise import without_noise
from slipway_operator.reconcile.observation import Observation

logger = logging.getLogger(__name__)

_SELDOM = timedelta(seconds=60)
_LONG = timedelta(minutes=2)
_RECENT = timedelta(minutes=3)
_REASONS = ("FailedMount", "FailedAttachVolume")
_SUMMARY = "Unable to attach or mount volumes"
_MOST_REMEMBERED = 1024


class _Reader(Protocol):
    async def events_about(self, namespace: str, uid: str) -> Sequence[Json]: ...


class PodEvents:
    """Remembers what was read, so that repeated reconciles cost few requests."""

    def __init__(self, reader: _Reader, clock: Callable[[], datetime]) -> None:
        self._reader = reader
        self._clock = clock
        self._read: dict[str, tuple[datetime, str | None]] = {}

    async def mount_failures(self, obs: Observation) -> dict[str, str]:
        """Why a volume cannot be mounted, by the uid of the pod; nothing if none says so."""
        now = self._clock()
        waiting = [
            (since, pod["metadata"]["uid"])
            for pod in obs.pods
            if (since := not_started_since(pod)) is not None
            and now - datetime.fromisoformat(since) >= timedelta(seconds=LOOK_SECONDS)
        ]
        if not waiting:
            return {}
        since, uid = min(waiting)
        known = self._read.get(uid)
        long = now - datetime.fromisoformat(since) > _LONG
        pause = _SELDOM if long else timedelta(seconds=LOOK_SECONDS)
        if known is None or now - known[0] >= pause:
            known = (now, await self._look(obs.model.namespace, uid, now))
            self._read[uid] = known
            while len(self._read) > _MOST_REMEMBERED:
                del self._read[next(iter(self._read))]
        return {} if known[1] is None else {uid: known[1]}

    async def _look(self, namespace: str, uid: str, now: datetime) -> str | None:
        try:
            events = await self._reader.events_about(namespace, uid)
        except (ApiError, TransportError) as error:
            # Less is known then; nothing else depends on it.
            logger.warning("the events of a pod could not be read", extra={"error": str(error)})
            return None
        told = {
            without_noise(event.get("message") or "")
            for event in events
            if event.get("reason") in _REASONS and now - _last(event, now) < _RECENT
        }
        # The summary of a timeout says less; and of several the first is kept.
        return min(told, key=lambda text: (text.startswith(_SUMMARY), text), default=None)


def _last(event: Json, now: datetime) -> datetime:
    series: Json = event.get("series") or {}
    text = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return datetime.fromisoformat(text) if text else now

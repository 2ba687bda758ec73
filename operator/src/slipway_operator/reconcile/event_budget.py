"""Limits how many Events are sent: for each object and in total, whatever their reasons.

The last ones of an object are for Warnings: a busy hour of rollouts must not hide that one failed.

A condition that flaps must fill neither etcd nor `kubectl describe`. An Event that is left out says
nothing that the status does not say.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_MOST_REMEMBERED = 4096


@dataclass(frozen=True)
class Rate:
    """A token bucket: ``burst`` at once, and one more every ``seconds``.

    Attributes:
        for_warnings: how many of the burst only Warnings may take.
    """

    burst: int
    seconds: float
    for_warnings: int = 0


# As client-go limits the Events of one source about one object.
PER_OBJECT = Rate(burst=25, seconds=300.0, for_warnings=5)
IN_TOTAL = Rate(burst=1000, seconds=0.05)


@dataclass
class _Bucket:
    tokens: float
    at: float

    def take(self, rate: Rate, now: float, *, warning: bool) -> bool:
        self.tokens = min(float(rate.burst), self.tokens + (now - self.at) / rate.seconds)
        self.at = now
        if self.tokens < 1 + (0 if warning else rate.for_warnings):
            return False
        self.tokens -= 1
        return True


class EventBudget:
    """Two token buckets: one for each object, one for all."""

    def __init__(
        self,
        per_object: Rate = PER_OBJECT,
        in_total: Rate = IN_TOTAL,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_object = per_object
        self._in_total = in_total
        self._monotonic = monotonic
        self._objects: OrderedDict[str, _Bucket] = OrderedDict()
        self._all = _Bucket(float(in_total.burst), monotonic())

    def allows(self, uid: str, *, warning: bool = False) -> bool:
        """Whether an Event about the object may be sent now; it then counts as sent."""
        now = self._monotonic()
        bucket = self._objects.setdefault(uid, _Bucket(float(self._per_object.burst), now))
        self._objects.move_to_end(uid)
        while len(self._objects) > _MOST_REMEMBERED:
            self._objects.popitem(last=False)
        return bucket.take(self._per_object, now, warning=warning) and self._all.take(
            self._in_total, now, warning=warning
        )

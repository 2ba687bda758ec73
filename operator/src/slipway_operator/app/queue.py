"""The work queue: keys without duplicates, never two workers on one key, back-off per key.

What a user asked for is urgent: it goes before what controllers report and before follow-up work.
The others do not starve: once one has waited for long, the two lanes alternate.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

from slipway_operator.reconcile.store import Key

_FIRST_BACKOFF = 0.05
_LONGEST_BACKOFF = 60.0
_MOST_DOUBLINGS = 16
_PATIENCE = 10.0
"""Seconds after which a key that is not urgent takes turns with those that are."""


class WorkQueue:
    """Keys that are due to be reconciled.

    A key that is added while a worker has it comes back when that worker is done, so no event is
    lost and no key is worked on twice at a time.
    """

    def __init__(
        self,
        waited: Callable[[float], None] = lambda _seconds: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``waited`` gets the seconds that each key waited for a worker."""
        self._waited = waited
        self._monotonic = monotonic
        # Keys and since when they wait, the longest first.
        self._urgent: OrderedDict[Key, float] = OrderedDict()
        self._others: OrderedDict[Key, float] = OrderedDict()
        self._others_turn = True
        self._working: set[Key] = set()
        self._again: dict[Key, bool] = {}
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        # Two, so that what only a few workers may take does not wake all the others.
        self._available = asyncio.Event()
        self._urgent_available = asyncio.Event()

    def __len__(self) -> int:
        return len(self._urgent) + len(self._others)

    def add(self, key: Key, *, urgent: bool = False) -> None:
        """Have a key reconciled as soon as possible."""
        if key in self._working:
            self._again[key] = urgent or self._again.get(key, False)
            return
        if key in self._urgent or (key in self._others and not urgent):
            return
        since = self._others.pop(key, None)
        lane = self._urgent if urgent else self._others
        lane[key] = self._monotonic() if since is None else since
        self._available.set()
        if urgent:
            self._urgent_available.set()

    def add_after(self, key: Key, seconds: float) -> None:
        """Have a key reconciled after a delay; a timer that is due earlier stays."""
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        known = self._timers.get(key)
        if known is not None:
            if known.when() <= due:
                return
            known.cancel()
        self._timers[key] = loop.call_at(due, self._fire, key)

    def _fire(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.add(key)

    async def get(self, *, only_urgent: bool = False) -> Key:
        """The next key; it is this worker's until ``done``."""
        now = self._monotonic()
        available = self._urgent_available if only_urgent else self._available
        while not (lane := self._urgent if only_urgent else self._next_lane(now)):
            available.clear()
            await available.wait()
            now = self._monotonic()
        key, since = lane.popitem(last=False)
        self._waited(now - since)
        self._working.add(key)
        return key

    def _next_lane(self, now: float) -> OrderedDict[Key, float]:
        if not self._urgent or not self._others:
            return self._urgent or self._others
        if now - next(iter(self._others.values())) < _PATIENCE:
            return self._urgent
        self._others_turn = not self._others_turn
        return self._others if self._others_turn else self._urgent

    def done(self, key: Key) -> None:
        """The worker has finished with the key."""
        self._working.discard(key)
        if key in self._again:
            self.add(key, urgent=self._again.pop(key))

    def failed(self, key: Key) -> float:
        """Retry the key later, with exponential backoff; returns the delay in seconds."""
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        seconds = min(_FIRST_BACKOFF * 2 ** min(count, _MOST_DOUBLINGS), _LONGEST_BACKOFF)
        self.add_after(key, seconds)
        return seconds

    def succeeded(self, key: Key) -> None:
        """Forget the key's failures."""
        self._failures.pop(key, None)

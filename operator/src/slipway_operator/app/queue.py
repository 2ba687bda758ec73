"""The work queue: keys without duplicates, never two workers on one key, back-off per key."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from slipway_operator.reconcile.store import Key

_FIRST_BACKOFF = 0.05
_LONGEST_BACKOFF = 60.0
_MOST_DOUBLINGS = 16


class WorkQueue:
    """Keys that want a look.

    A key that is added while a worker has it comes back when that worker is done, so no event is
    lost and no key is worked on twice at a time.
    """

    def __init__(self, waited: Callable[[float], None] = lambda _seconds: None) -> None:
        """``waited`` is told of each key how long it had to wait for a worker."""
        self._waited = waited
        self._since: dict[Key, float] = {}
        self._waiting: deque[Key] = deque()
        self._queued: set[Key] = set()
        self._working: set[Key] = set()
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._available = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, key: Key) -> None:
        """Ask for a look at a key now."""
        if key in self._working:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._since[key] = time.monotonic()
            self._waiting.append(key)
            self._available.set()

    def add_after(self, key: Key, seconds: float) -> None:
        """Ask for a look in a while; an earlier one that is due stays."""
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

    async def get(self) -> Key:
        """The next key; it is this worker's until ``done``."""
        while not self._waiting:
            self._available.clear()
            await self._available.wait()
        key = self._waiting.popleft()
        self._queued.discard(key)
        self._waited(time.monotonic() - self._since.pop(key))
        self._working.add(key)
        return key

    def done(self, key: Key) -> None:
        """The worker is through with the key."""
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def failed(self, key: Key) -> float:
        """Try the key again later, each time after a longer while; returns the seconds."""
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        seconds = min(_FIRST_BACKOFF * 2 ** min(count, _MOST_DOUBLINGS), _LONGEST_BACKOFF)
        self.add_after(key, seconds)
        return seconds

    def succeeded(self, key: Key) -> None:
        """Forget the key's failures."""
        self._failures.pop(key, None)

"""Staying awake for some microseconds after an answer, where the next request follows at once.

A core that falls asleep needs tens of microseconds to wake up, in a virtual machine often more than
a hundred, and begins with cold caches: more than a small model's whole request takes. So after an
answer the event loop looks for what comes next without sleeping, for a moment, and only where that
has mostly been worth it; otherwise one answer in many tries again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

_WORTH_IT: Final = 0.75
_WEIGHT: Final = 1 / 8
_TRY_EVERY: Final = 32


class BusyPoll:
    """Keeps the running loop awake for up to ``seconds`` after an answer; 0: never.

    Not while ``in_flight`` tells that something else is done meanwhile, which may need the core.
    """

    def __init__(self, seconds: float) -> None:
        self.in_flight: Callable[[], int] = lambda: 0
        self._seconds = seconds
        self._found = 0.0  # the share of the latest looks that found something
        self._spared = 0
        self._looking = False
        self._scheduled = False
        self._until = 0.0

    @property
    def looking(self) -> bool:
        """Whether the loop is kept awake."""
        return self._looking

    def heard(self) -> None:
        """Know that something has come."""
        if self._looking:
            self._looking = False
            self._found += (1.0 - self._found) * _WEIGHT

    def answered(self) -> None:
        """Know that an answer has left, and look for what comes next."""
        if not self._seconds or self._looking:
            return
        if self._found < _WORTH_IT:
            self._spared += 1
            if self._spared < _TRY_EVERY:
                return
            self._spared = 0
        if self.in_flight():
            return
        self._looking = True
        self._until = time.perf_counter() + self._seconds
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        """Runs in every turn of the loop, which does not sleep while a callback is due."""
        if self._looking and time.perf_counter() < self._until:
            asyncio.get_running_loop().call_soon(self._look)
            return
        self._scheduled = False
        if self._looking:
            self._looking = False
            self._found -= self._found * _WEIGHT

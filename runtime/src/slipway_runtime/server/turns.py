"""Turns of the event loop that stay short, however many clients ask at once.

A turn of the loop takes in all that has come since the last one. Where thousands of connections
each bring a request, that is a good part of a second, in which a probe waits with all the others.
So a turn begins requests for a moment only. What comes later in it is deferred: its bytes are kept,
and begun in the next turns, in the order in which they came. Probes are never deferred.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final, Protocol

logger = logging.getLogger(__name__)

_TURN_SECONDS: Final = 0.025
_TIMED_EVERY: Final = 8
# Of one connection: nothing else limits what is not parsed yet.
_MOST_BYTES: Final = 64 * 1024


class Taker(Protocol):
    """A connection whose bytes can be deferred."""

    def take_in(self, data: bytes, waited: float) -> None:
        """Take in what has come, and was deferred for ``waited`` seconds."""
        ...

    def abort(self) -> None:
        """Close at once."""
        ...


class _Held:
    """What was deferred of one connection, and since when (time.monotonic)."""

    __slots__ = ("parts", "since", "size")

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.since = time.monotonic()
        self.size = 0


class Turns:
    """What was deferred in one event loop, by connection. For its thread alone."""

    def __init__(self) -> None:
        self._deferred: dict[Taker, _Held] = {}
        self._scheduled = False
        self._begun = 0
        self._end: float | None = None

    def __len__(self) -> int:
        return len(self._deferred)

    def __contains__(self, connection: Taker) -> bool:
        return connection in self._deferred

    def over(self) -> bool:
        """Return whether nothing more is to be begun in this turn; if not, something will be."""
        if self._deferred:
            return True
        if self._end is not None:
            return time.monotonic() > self._end
        self._begun += 1
        # To hear of the end of a turn costs some µs, so those with few requests are not timed.
        if self._begun % _TIMED_EVERY == 0:
            self._end = time.monotonic() + _TURN_SECONDS
            asyncio.get_running_loop().call_soon(self._turn_ended)
        return False

    def _turn_ended(self) -> None:
        self._end = None

    def defer(self, connection: Taker, data: bytes) -> bool:
        """Let a connection take these bytes in later, behind those that it has not taken in yet.

        Returns whether it should send more meanwhile.
        """
        self._schedule()
        held = self._deferred.get(connection)
        if held is None:
            held = self._deferred[connection] = _Held()
        held.parts.append(data)
        held.size += len(data)
        return held.size <= _MOST_BYTES

    def forget(self, connection: Taker) -> bool:
        """Know that a connection has ended; return whether something of it was deferred."""
        return self._deferred.pop(connection, None) is not None

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._scheduled = False
        now = time.monotonic()
        end = now + _TURN_SECONDS
        while self._deferred and now < end:
            connection = next(iter(self._deferred))
            held = self._deferred.pop(connection)
            try:
                connection.take_in(b"".join(held.parts), now - held.since)
            except Exception:
                # As the event loop does with what it hands over itself.
                logger.exception("a defect in taking in what was deferred")
                connection.abort()
            now = time.monotonic()
        if self._deferred:
            self._schedule()

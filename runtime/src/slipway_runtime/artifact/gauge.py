"""Measures the combined rate of a transfer's connections."""

from __future__ import annotations

from typing import Final

# How many bytes of each connection, or for how long, are observed before a rate is reported.
_BYTES: Final = 4 * 1024 * 1024
_SECONDS: Final = 0.05


class Gauge:
    """Looks at bytes as they come; not before each connection that was begun last brought some.

    Times are seconds of one monotonic clock. It has no lock of its own.
    """

    def __init__(self) -> None:
        self.connections = 0
        self._silent: set[int] = set()
        self._came = 0
        self._from = 0
        self._since = 0.0

    def begun(self, connection: int) -> None:
        """Add a connection, under a number of its own."""
        self.connections += 1
        self._silent.add(connection)

    def took(
        self, connection: int, count: int, opened: float, now: float, *, ended: bool
    ) -> float | None:
        """Take in bytes of an answer that was ``opened`` then.

        Returns the rate of all in bytes a second once there is enough to tell it by, or the only
        connection's answer has ``ended``; else None.
        """
        alone = self.connections == 1
        self._came += count
        if connection in self._silent:
            self._silent.discard(connection)
            # The first one's time begins with its answer; of several it begins now, when all of
            # them bring something.
            self._from = self._came - count if alone else self._came
            self._since = opened if alone else now
        came, seconds = self._came - self._from, now - self._since
        enough = came >= _BYTES * self.connections or seconds >= _SECONDS
        if self._silent or not (enough or (ended and alone)):
            return None
        return came / max(seconds, 1e-6)

    def restart(self, now: float) -> None:
        """Start measuring afresh."""
        self._from, self._since = self._came, now

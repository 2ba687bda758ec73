"""How much memory the bodies of all requests may take, from their first byte to their answer.

Connections, and requests that wait, are bounded by their number; with large bodies few of either
would fill a pod. Small bodies are not counted, so that large ones do not shut them out.
"""

from __future__ import annotations

from typing import Final

from slipway_runtime.errors import QueueFull

SMALL_BYTES: Final = 64 * 1024


class Intake:
    """Counts what is held, against ``limit`` in bytes. For the event loop's thread alone."""

    def __init__(self, limit: int) -> None:
        self.held = 0
        self._limit = limit

    def hold(self, before: int, size: int) -> int:
        """Let a request that held ``before`` hold ``size`` bytes; returns what counts of them.

        Raises:
            QueueFull: that is too much, beside what the others hold; it holds what it held before.
        """
        counted = 0 if size <= SMALL_BYTES else size
        more = counted - before
        if more > 0 and self.held + more > self._limit:
            raise QueueFull(
                f"the bodies of requests take {self.held} bytes already, and all together may take"
                f" {self._limit}: try again later"
            )
        self.held += more
        return counted

    def release(self, held: int) -> None:
        """Note that a request no longer holds anything."""
        self.held -= held

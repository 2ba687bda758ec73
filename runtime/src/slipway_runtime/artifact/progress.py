"""How far a fetch has come: counted by all its threads, logged every few seconds."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

_SECONDS = 5.0
_MEGABYTE = 1_000_000

logger = logging.getLogger(__name__)


class Progress:
    """Bytes received and, once it is known, of how many."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._started = self._reported = clock()
        self.count = 0
        self.brought = 0
        """What came over the network, also where it was fetched once more."""
        self.total: int | None = None

    def expect(self, total: int) -> None:
        """Set how many bytes there will be in all."""
        self.total = total

    def add(self, count: int) -> None:
        """Count bytes; a negative number takes back what has to be fetched again."""
        with self._lock:
            self.count += count
            now = self._clock()
            if now - self._reported < _SECONDS:
                return
            self._reported = now
        self._report()

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._started

    @property
    def rate(self) -> float:
        """Bytes per second since the beginning."""
        return self.count / max(self.seconds, 1e-6)

    def describe(self) -> str:
        """Return the count in readable form: ``12 MB of 100 MB``."""
        of_total = f" of {self.total / _MEGABYTE:.0f} MB" if self.total else ""
        return f"{self.count / _MEGABYTE:.0f} MB{of_total}"

    def _report(self) -> None:
        percent = f" ({100 * self.count / self.total:.0f} %)" if self.total else ""
        logger.info(
            "fetched %s%s at %.1f MB/s",
            self.describe(),
            percent,
            self.rate / _MEGABYTE,
            # docs/pod-contract.md: the operator may read these.
            extra={"fetched_bytes": self.count, "total_bytes": self.total},
        )

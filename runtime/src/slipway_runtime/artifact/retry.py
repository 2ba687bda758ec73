"""How often and for how long a fetch is retried."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from slipway_runtime.artifact.sources import TransientError
from slipway_runtime.errors import SourceUnavailable

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Retry:
    """How often and how long to try. Times are in seconds.

    ``attempts`` may fail in a row, with nothing received, before it is given up. A source that asks
    for a longer pause gets it, up to ``longest_asked_pause``. ``clock`` is monotonic; ``sleep`` and
    ``jitter`` (which draws from an interval) are here so that tests need not wait.
    """

    attempts: int = 5
    deadline: float = 1800.0
    first_pause: float = 0.5
    longest_pause: float = 15.0
    longest_asked_pause: float = 120.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[float, float], float] = random.uniform

    def pause_after(self, attempt: int, asked: float = 0.0) -> float:
        """Return the pause after the n-th failed attempt, counted from 1; ``asked`` is at least."""
        longest = min(self.longest_pause, self.first_pause * 2 ** (attempt - 1))
        return max(self.jitter(longest / 2, longest), min(asked, self.longest_asked_pause))


class Patience:
    """Counts the attempts at one thing; ``give_up_at`` is a time of the policy's clock."""

    def __init__(self, retry: Retry, give_up_at: float) -> None:
        self._retry = retry
        self._give_up_at = give_up_at
        self._failed = 0

    @property
    def seconds_left(self) -> float:
        """The time until the deadline, at least 0."""
        return max(0.0, self._give_up_at - self._retry.clock())

    def wait(self, error: TransientError, *, progressed: bool) -> None:
        """Pause after a failed attempt; one that received bytes restarts the count.

        Raises:
            SourceUnavailable: it was the last attempt, or the pause would pass the deadline.
        """
        self._failed = 1 if progressed else self._failed + 1
        pause = self._retry.pause_after(self._failed, error.pause)
        if self._failed >= self._retry.attempts or pause >= self.seconds_left:
            raise SourceUnavailable(
                f"{error.message} (gave up after {self._failed} attempts)"
            ) from error
        logger.warning(
            "attempt %d of %d failed, the next in %.1f s: %s",
            self._failed,
            self._retry.attempts,
            pause,
            error.message,
        )
        self._retry.sleep(pause)

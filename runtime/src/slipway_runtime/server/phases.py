"""Where the time of one request went, noted only where somebody wants to know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass
class Phases:
    """Times of `time.perf_counter` and durations, in seconds; all 0 until a request succeeds."""

    received: float = 0.0
    decoded: float = 0.0
    queued: float = 0.0
    ran: float = 0.0
    executed: float = 0.0
    ended: float = 0.0

    def spans(self) -> Iterator[tuple[str, float, float]]:
        """Yield name, begin and end of each phase in their order; nothing for a failed request."""
        if not self.ended:
            return
        submitted = self.decoded + self.queued
        yield "decode", self.received, self.decoded
        yield "queue", self.decoded, submitted
        yield "infer", submitted, submitted + self.ran
        yield "encode", self.executed, self.ended

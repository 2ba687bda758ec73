"""Where the server is between start and exit."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from enum import StrEnum

from slipway_runtime.artifact.digest import Digest
from slipway_runtime.metrics import Metrics

logger = logging.getLogger(__name__)


class Phase(StrEnum):
    """The phases in their order; only READY is ready."""

    VERIFYING = "verifying"
    LOADING = "loading"
    WARMING = "warming"
    READY = "ready"
    DRAINING = "draining"


class Lifecycle:
    """The phase and what it means for answers. For the event loop's thread alone.

    ``providers`` are those of the session, ``passed_over`` the preferred ones that it lacks, each
    with the reason; both are empty until it is made.
    """

    def __init__(self, name: str, digest: Digest, metrics: Metrics) -> None:
        self.name = name
        self.digest = digest
        self.metrics = metrics
        self.phase = Phase.VERIFYING
        self.providers: list[str] = []
        self.passed_over: Mapping[str, str] = {}
        self._since = time.monotonic()

    @property
    def ready(self) -> bool:
        """Whether new traffic should come here."""
        return self.phase is Phase.READY

    @property
    def unready(self) -> str | None:
        """The phase in which no new traffic should come here, None where it should."""
        return None if self.ready else str(self.phase)

    @property
    def phase_seconds(self) -> float:
        """How long the phase has lasted."""
        return time.monotonic() - self._since

    @property
    def draining(self) -> bool:
        """Whether the process is about to end."""
        return self.phase is Phase.DRAINING

    def enter(self, phase: Phase) -> None:
        """Go to a later phase; once draining it stays so, whatever the loader still reports."""
        if self.draining:
            return
        now = time.monotonic()
        if self.phase not in (Phase.READY, phase):
            self.metrics.loaded(str(self.phase), now - self._since)
        if phase is not self.phase:
            logger.info("phase %s", phase, extra={"digest": str(self.digest)})
        self.phase = phase
        self._since = now
        self.metrics.ready = self.ready

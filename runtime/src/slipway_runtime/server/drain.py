"""How long a server that was told to end still takes new connections."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from slipway_runtime.settings import ServeSettings

# Less than the time between two readiness probes, which go on coming.
_QUIET_SECONDS: Final = 1.0
_LONGEST_SHARE: Final = 0.5

logger = logging.getLogger(__name__)


async def serve_on(
    settings: ServeSettings, hurry: asyncio.Event, latest: Callable[[], float]
) -> float:
    """Wait for the drain delay, and longer while new connections come; at once on ``hurry``.

    New connections after the delay mean that the cluster's proxies have not heard yet that this
    pod ends. For them there is up to half of the drain time-out, unless there is no delay at all.

    Args:
        settings: the delay and the time-out.
        hurry: ends the wait.
        latest: tells when the newest connection came, by the clock of time.monotonic().

    Returns:
        What is left of the drain time-out, in seconds.
    """
    delay, timeout = settings.drain_delay, settings.drain_timeout
    logger.info(
        "draining: serving on for %g s, then finishing what is in flight for up to %g s",
        delay,
        timeout,
    )
    due = time.monotonic() + delay
    last = due + timeout * _LONGEST_SHARE if delay else due
    quiet = min(_QUIET_SECONDS, delay)
    while (
        not hurry.is_set()
        and (pause := min(max(due, latest() + quiet), last) - time.monotonic()) > 0
    ):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(hurry.wait(), pause)
    longer = max(0.0, time.monotonic() - due)
    if longer >= quiet > 0:
        logger.info("served %.1f s longer, since new connections came", longer)
    return timeout - longer

"""Waiting for a condition with a deadline, never for a length of time."""

from __future__ import annotations

import time
from collections.abc import Callable

from slipway_dev.errors import DevError

Probe = Callable[[], str | None]
"""Returns None once the awaited condition holds, else the present state in words."""


def wait_until(what: str, probe: Probe, timeout: float, interval: float = 0.1) -> None:
    """Return as soon as `probe` does; raise DevError with its last word after `timeout` seconds.

    A probe that knows the condition can no longer come true raises DevError itself.
    """
    deadline = time.monotonic() + timeout
    while (state := probe()) is not None:
        if time.monotonic() >= deadline:
            raise DevError(f"{what}: not within {timeout:g} s. Last seen: {state}")
        time.sleep(interval)

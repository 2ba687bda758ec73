"""Waiting for a condition with a deadline; the last failure tells what was missing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from operator_kit.api import ApiError, Unreachable

T = TypeVar("T")

_INTERVAL = 0.05


def eventually(
    check: Callable[[], T],
    within: float = 15.0,
    show: Callable[[], str] | None = None,
    interval: float = _INTERVAL,
) -> T:
    """Return what ``check`` returns as soon as it raises nothing.

    Args:
        check: raises AssertionError while the condition does not hold yet; a look at what is not
            there yet (LookupError, ValueError) counts as the same.
        within: seconds until that is final.
        show: tells the state of the world for the message of a time-out.
        interval: seconds between two looks.
    """
    deadline = time.monotonic() + within
    while True:
        try:
            return check()
        except (AssertionError, ApiError, Unreachable, LookupError, ValueError) as error:
            if time.monotonic() >= deadline:
                world = f"\n\n{show()}" if show else ""
                raise AssertionError(f"not within {within:g} s: {error!r}{world}") from error
        time.sleep(interval)


def always(check: Callable[[], None], lasting: float) -> None:
    """Require that ``check`` raises nothing for that many seconds."""
    deadline = time.monotonic() + lasting
    while time.monotonic() < deadline:
        check()
        time.sleep(_INTERVAL)

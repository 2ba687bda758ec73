"""Keeps the process small: what lists and bursts of work leave behind goes back to the system."""

import asyncio
import ctypes
import gc
from collections.abc import Callable

_LOOK_SECONDS = 5.0
_MANY = 50


def keep() -> None:
    """Take what exists now for what stays, such as modules: no collection walks it again."""
    gc.collect()
    gc.freeze()


def reclaim() -> None:
    """Give free memory back: a list takes several times what is kept of it."""
    # Of the GNU C library only; others return memory by themselves.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


async def reclaim_at_rest(handled: Callable[[], int]) -> None:
    """Give free memory back, for ever, each time that many keys were handled and now none is.

    ``handled`` returns how many there have been.
    """
    known = reclaimed = handled()
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        now = handled()
        if now == known and now - reclaimed >= _MANY:
            reclaim()
            reclaimed = now
        known = now

"""Keeps the process small: what lists leave behind is given back to the system."""

import ctypes
import gc


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

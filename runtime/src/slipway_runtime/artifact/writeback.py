"""Start write-back to disk while data still arrives, so that the final sync is short."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any, Final

_SYNC_FILE_RANGE_WRITE: Final = 2


def start_writeback(descriptor: int, start: int, count: int) -> None:
    """Begin writing bytes of a file to disk, without waiting; a hint, whose errors are ignored."""
    call = _sync_file_range()
    if call is not None and count:
        call(descriptor, start, count, _SYNC_FILE_RANGE_WRITE)


@functools.cache
def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    # Python's os has no name for it. Linux alone knows it.
    call: Any = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if call is not None:
        call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return call

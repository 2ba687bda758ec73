"""Threads for what is large to decode or to encode, so that the event loop goes on meanwhile.

Python runs one thread at a time, and a library's single call (orjson's for a JSON body) lets no
other in between: 20 ms for each MB. What is a loop in Python gives way every 5 ms. Two threads, so
that one body that takes seconds does not keep all others waiting.

Meanwhile the garbage collector rests: it would go through all that a body has become again and
again, which takes as long as the parsing and holds everything else back, and finds nothing.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

from slipway_runtime.inference.pool import Pool

T = TypeVar("T")

# Bytes of a request, or of outputs, from which on a hop to a thread is small beside the work.
WORTH_A_THREAD: Final = 256 * 1024
_THREADS: Final = 2
_LONGEST_REST_SECONDS: Final = 10.0


class _Job(NamedTuple):
    function: Callable[[], Any]
    future: asyncio.Future[Any]


class CodecPool:
    """Calls functions on threads. For the event loop's thread alone."""

    def __init__(self) -> None:
        self._pool: Pool[_Job, Any] = Pool(_THREADS, _work, self._done, name="codec")
        self._jobs = 0
        self._resting_since = 0.0

    @property
    def jobs(self) -> int:
        """How many calls wait or run."""
        return self._jobs

    async def call(self, function: Callable[[], T]) -> T:
        """Return what a function returns.

        Raises:
            Exception: what it raises.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if not self._jobs:
            gc.disable()
            self._resting_since = time.monotonic()
        self._jobs += 1
        self._pool.submit(_Job(function, future))
        # It may hold a large request, which is to be free as soon as it is decoded.
        del function
        return await future

    def _done(self, job: _Job, result: Any) -> None:
        self._jobs -= 1
        if not self._jobs:
            gc.enable()
        elif time.monotonic() - self._resting_since > _LONGEST_REST_SECONDS:
            # Where there always is another one, what only the collector frees must not pile up.
            gc.collect()
            self._resting_since = time.monotonic()
        if job.future.done():
            return
        if isinstance(result, Exception):
            job.future.set_exception(result)
        else:
            job.future.set_result(result)


def _work(job: _Job) -> Any:
    return job.function()

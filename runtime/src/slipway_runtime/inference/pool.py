"""Threads that process what an event loop gives them, and hand the results back to it.

The way there and back is on the path of every run that is not done on the loop. A request of a
small model that had to go this way took 10 to 18 % more processor time with ThreadPoolExecutor and
asyncio's wrapping of its futures (in interleaved rounds, one connection).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, TypeAlias, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_Finished: TypeAlias = "deque[tuple[asyncio.AbstractEventLoop, Any, Any]]"
_Work: TypeAlias = (
    "tuple[asyncio.AbstractEventLoop, Callable[[Any], Any], _Finished, Callable[[], None], Any]"
)


class Pool(Generic[T, R]):
    """Calls ``work`` with each item, on one of so many threads, and then ``done`` on the loop.

    ``done`` gets the item and the result, or the Exception that ``work`` raised. The threads are
    daemons and end with the pool.
    """

    def __init__(
        self,
        threads: int,
        work: Callable[[T], R],
        done: Callable[[T, R | Exception], None],
        name: str = "inference",
    ) -> None:
        self._threads = threads
        self._name = name
        self._work = work
        self._done = done
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._finished: _Finished = deque()
        self._started = False

    def submit(self, item: T) -> None:
        """Have an item processed, by a thread that is free."""
        if not self._started:
            self._start()
        loop = asyncio.get_running_loop()
        self._queue.put((loop, self._work, self._finished, self.collect, item))

    def collect(self) -> None:
        """Take the results that are there, on the loop's thread.

        The loop calls it by itself, but only between two turns; a turn in which very many requests
        arrive is long, and the threads would wait for its end.
        """
        here = asyncio.get_running_loop()
        while self._finished:
            loop, item, result = self._finished.popleft()
            if loop is here:
                self._done(item, result)

    def _start(self) -> None:
        for number in range(self._threads):
            # They know the queue and not the pool, which would else never be freed.
            name = f"{self._name}_{number}"
            threading.Thread(target=_serve, args=(self._queue,), name=name, daemon=True).start()
        self._started = True

    def __del__(self) -> None:
        """Let the threads end."""
        if self._started:
            for _ in range(self._threads):
                self._queue.put(None)


def _serve(queue: SimpleQueue[_Work | None]) -> None:
    while (given := queue.get()) is not None:
        loop, work, finished, collect, item = given
        try:
            result = work(item)
        except Exception as error:  # noqa: BLE001 - it belongs to the item, not to the thread
            result = error
        finished.append((loop, item, result))
        with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits any longer.
            loop.call_soon_threadsafe(collect)
        # What is kept until the next item comes would not be free for it.
        del given, loop, work, finished, collect, item, result

"""Handlers that run at once, in the turn of the event loop in which their request arrived.

A task would begin one turn later, and for a request that needs to wait for nothing it costs a
tenth of the whole. Python 3.12 has eager tasks; this does as much for 3.11, and makes no task at
all. So `asyncio.current_task` is None in a handler: what needs one makes it.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine until it is done or awaits a future, and on whenever that future is done.

    Raises:
        Exception: what the coroutine raises before it first waits.
    """
    try:
        awaited: Any = coroutine.send(None)
    except StopIteration:
        return
    # What a task would do: take note that somebody waits, and be told.
    awaited._asyncio_future_blocking = False

    def go_on(_done: object) -> None:
        run(coroutine)

    awaited.add_done_callback(go_on)

"""What runs on a thread comes back to the event loop, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable

import pytest

from slipway_runtime.inference.pool import Pool


async def results(pool_threads: int, items: list[int]) -> list[tuple[int, object, bool]]:
    """Square items in a pool: each item, its result, and whether it came on this thread."""
    here = threading.get_ident()
    came: list[tuple[int, object, bool]] = []
    all_came = asyncio.Event()

    def square(item: int) -> int:
        if item < 0:
            raise ValueError("negative")
        return item * item

    def done(item: int, result: int | Exception) -> None:
        came.append((item, result, threading.get_ident() == here))
        if len(came) == len(items):
            all_came.set()

    pool = Pool(pool_threads, square, done)
    for item in items:
        pool.submit(item)
    await asyncio.wait_for(all_came.wait(), 10)
    return came


@pytest.mark.parametrize("threads", [1, 3])
async def test_each_result_comes_on_the_loops_thread(threads: int) -> None:
    came = await results(threads, list(range(100)))
    assert sorted(came) == [(item, item * item, True) for item in range(100)]


async def test_one_thread_keeps_the_order() -> None:
    came = await results(1, [3, 1, 2])
    assert [item for item, *_ in came] == [3, 1, 2]


async def test_what_work_raises_is_the_result_and_the_thread_goes_on() -> None:
    (_, error, here), (_, square, _) = await results(1, [-1, 4])
    assert (repr(error), here, square) == ("ValueError('negative')", True, 16)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Item:
    """Something that can be seen to be freed."""


async def test_the_threads_hold_no_item_and_end_with_the_pool() -> None:
    before = set(threading.enumerate())
    came = asyncio.Event()
    pool: Pool[Item, Item] = Pool(2, lambda item: item, lambda _item, _result: came.set())
    item = Item()
    freed = weakref.ref(item)
    pool.submit(item)
    del item
    await asyncio.wait_for(came.wait(), 10)
    ours = set(threading.enumerate()) - before
    assert len(ours) == 2
    wait_until(lambda: freed() is None)
    del pool
    gc.collect()
    wait_until(lambda: not any(thread.is_alive() for thread in ours))


def test_a_result_for_a_loop_that_is_closed_is_dropped_and_the_thread_goes_on() -> None:
    began, goes_on = threading.Event(), threading.Event()
    came = list[tuple[int, object]]()

    def work(item: int) -> int:
        began.set()
        goes_on.wait(10)
        return item

    on_done: list[Callable[[], None]] = []

    def done(item: int, result: object) -> None:
        came.append((item, result))
        on_done[0]()

    pool = Pool(1, work, done)

    async def submit(item: int) -> None:
        pool.submit(item)

    asyncio.run(submit(1))
    assert began.wait(10)
    goes_on.set()

    async def another() -> None:
        second = asyncio.Event()
        on_done.append(second.set)
        pool.submit(2)
        await asyncio.wait_for(second.wait(), 10)

    asyncio.run(another())
    assert came == [(2, 2)]

"""Keys wait once, are worked on by one worker at a time, and come back when they should."""

from __future__ import annotations

import asyncio
import random

import pytest
from fake_cluster.virtual_time import run
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway_operator.app.queue import WorkQueue

A, B, C = ("ns", "a"), ("ns", "b"), ("ns", "c")


async def test_a_key_that_waits_is_not_added_again():
    queue = WorkQueue()
    for _ in range(3):
        queue.add(A)
    queue.add(B)
    assert len(queue) == 2
    assert [await queue.get(), await queue.get()] == [A, B]


async def test_a_key_that_is_worked_on_comes_back_once_when_it_is_done():
    queue = WorkQueue()
    queue.add(A)
    assert await queue.get() == A
    queue.add(A)
    queue.add(A)
    assert len(queue) == 0
    queue.done(A)
    assert len(queue) == 1
    assert await queue.get() == A
    queue.done(A)
    assert len(queue) == 0


async def test_a_worker_that_waits_is_woken():
    queue = WorkQueue()
    waiting = [asyncio.create_task(queue.get()) for _ in range(2)]
    await asyncio.sleep(0)
    queue.add(A)
    queue.add(B)
    assert {*await asyncio.gather(*waiting)} == {A, B}


async def test_what_is_urgent_goes_first_in_its_order():
    queue = WorkQueue()
    queue.add(A)
    queue.add(B, urgent=True)
    queue.add(C, urgent=True)
    assert [await queue.get() for _ in range(3)] == [B, C, A]


@pytest.mark.parametrize("working", [False, True], ids=["that waits", "that is worked on"])
async def test_a_key_becomes_urgent_when_it_is_asked_for_urgently(working):
    queue = WorkQueue()
    queue.add(A)
    if working:
        assert await queue.get() == A
    queue.add(B)
    queue.add(A)
    queue.add(A, urgent=True)
    queue.add(A)
    queue.done(A)
    assert [await queue.get(), await queue.get()] == [A, B]
    assert len(queue) == 0


async def test_what_waited_for_long_takes_turns_with_what_is_urgent():
    now = 0.0
    waits: list[float] = []
    queue = WorkQueue(waits.append, lambda: now)
    for key in (A, B):
        queue.add(key)
    now = 9.0
    urgent = [("urgent", str(number)) for number in range(4)]
    for key in urgent:
        queue.add(key, urgent=True)
    assert await queue.get() == urgent[0]
    now = 10.0
    got = [await queue.get() for _ in range(5)]
    assert got == [urgent[1], A, urgent[2], B, urgent[3]]
    assert waits == [0, 1, 10, 1, 10, 1]


async def test_a_worker_for_what_is_urgent_leaves_the_rest_to_others():
    queue = WorkQueue()
    kept = asyncio.create_task(queue.get(only_urgent=True))
    other = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add(A)
    assert await other == A
    queue.add(B)
    await asyncio.sleep(0)
    assert not kept.done()
    queue.add(C, urgent=True)
    assert await kept == C
    assert await queue.get() == B


async def test_a_worker_that_is_cancelled_takes_no_key_with_it():
    queue = WorkQueue()
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add(A)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    if len(queue) == 0:
        assert waiting.result() == A
    else:
        assert await queue.get() == A


async def test_back_off_grows_to_a_limit_and_ends_with_success():
    queue = WorkQueue()
    waits = [queue.failed(A) for _ in range(14)]
    assert waits[:4] == [0.05, 0.1, 0.2, 0.4]
    assert waits == sorted(waits)
    assert waits[-1] == 60.0
    assert queue.failed(B) == 0.05
    queue.succeeded(A)
    assert queue.failed(A) == 0.05


async def test_back_off_stays_at_its_limit_for_weeks():
    queue = WorkQueue()
    for _ in range(3000):
        assert queue.failed(A) <= 60.0


def test_the_earlier_of_two_dates_counts():
    async def first(one: float, other: float) -> float:
        queue = WorkQueue()
        loop = asyncio.get_running_loop()
        begin = loop.time()
        queue.add_after(A, one)
        queue.add_after(A, other)
        await queue.get()
        return loop.time() - begin

    for one, other in ((5, 30), (30, 5)):
        assert abs(run(first(one, other)) - 5) < 0.01


def test_a_date_leads_to_one_look():
    async def looks() -> int:
        queue = WorkQueue()
        for seconds in (9, 3, 6):
            queue.add_after(A, seconds)
        await asyncio.sleep(20)
        return len(queue)

    assert run(looks()) == 1


def test_an_event_does_not_wait_for_the_date():
    async def main() -> float:
        queue = WorkQueue()
        begin = asyncio.get_running_loop().time()
        queue.add_after(A, 60)
        queue.add(A)
        await queue.get()
        return asyncio.get_running_loop().time() - begin

    assert run(main()) == 0


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32))
def test_nobody_shares_a_key_and_every_event_leads_to_a_later_look(seed):
    chance = random.Random(seed)
    keys = [("ns", str(n)) for n in range(5)]

    async def main() -> None:
        queue = WorkQueue()
        busy: set[tuple[str, str]] = set()
        last_event: dict[tuple[str, str], float] = {}
        last_look: dict[tuple[str, str], float] = {}
        now = asyncio.get_running_loop().time

        async def worker() -> None:
            while True:
                key = await queue.get()
                assert key not in busy
                busy.add(key)
                last_look[key] = now()
                await asyncio.sleep(chance.random())
                busy.discard(key)
                if chance.random() < 0.3:
                    queue.failed(key)
                else:
                    queue.succeeded(key)
                queue.done(key)

        workers = [asyncio.create_task(worker()) for _ in range(3)]
        for _ in range(60):
            key = chance.choice(keys)
            last_event[key] = now()
            queue.add(key)
            await asyncio.sleep(chance.random() / 4)
        await asyncio.sleep(300)
        for key, at in last_event.items():
            assert last_look[key] >= at
        for task in workers:
            assert not task.done() or not task.exception()
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    run(main())

"""Requests of several shapes and sizes at once: who waits for how many runs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from runtime_kit import onnx_models

from slipway_runtime.inference.batching import BatchLimits, key_of
from slipway_runtime.inference.executor import Executor, Ticket
from slipway_runtime.inference.model import Model
from slipway_runtime.inference.timing import Predictor

LoadModel = Callable[[bytes], Model]

MAX_ROWS = 8
SHAPES = {"A": (1, 4), "B": (1, 5), "large": (3 * MAX_ROWS, 4)}


def x(shape: Sequence[int]) -> dict[str, Any]:
    return {"x": np.zeros(shape, dtype=np.float32)}


def runs_as_they_begin(executor: Executor, times: list[float] | None = None) -> list[list[Ticket]]:
    """The requests of each run, as they leave the queue: on a thread it starts a little later.

    ``times`` gets when it was decided what should run.
    """
    runs: list[list[Ticket]] = []
    watched: Any = executor
    begin, choose = watched._begin, watched._next_batch
    decided = 0.0

    def noted(run: Any) -> None:
        runs.append(list(run.tickets))
        if times is not None:
            times.append(decided)
        begin(run)

    def timed() -> Any:
        nonlocal decided
        decided = time.perf_counter()
        return choose()

    watched._begin, watched._next_batch = noted, timed
    return runs


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("inline", [0.0, 0.02])
@pytest.mark.parametrize("delay", [0.0, 0.001])
def test_a_request_waits_for_at_most_as_many_runs_as_requests_wait_before_it(
    load_model: LoadModel, threads: int, inline: float, delay: float
) -> None:
    """Though one shape comes in a stream that could fill every run.

    While a request waits for company, as it is told to, what is full may run; after that it counts.
    """
    executor = Executor(
        load_model(onnx_models.identity()),
        threads=threads,
        limits=BatchLimits(MAX_ROWS, delay),
        inline_seconds=inline,
    )
    decided_at: list[float] = []
    runs = runs_as_they_begin(executor, decided_at)
    answered = dict.fromkeys(SHAPES, 0)

    async def client(kind: str, requests: int) -> None:
        for _ in range(requests):
            waiting, begun = executor.pending, len(runs)
            ticket = executor.submit(x(SHAPES[kind]))
            await ticket.future
            own = next(
                number for number, run in enumerate(runs) if number >= begun and ticket in run
            )
            due = ticket.submitted + delay
            before = sum(at > due for at in decided_at[begun:own])
            assert before <= waiting, f"{kind} waited for {before} runs behind {waiting} requests"
            answered[kind] += 1

    async def ask() -> None:
        stream = [asyncio.create_task(client("A", 10_000)) for _ in range(3 * MAX_ROWS)]
        others = [client("B", 30) for _ in range(3)] + [client("large", 30) for _ in range(2)]
        await asyncio.gather(*others)
        assert not any(task.done() for task in stream)
        for task in stream:
            task.cancel()
        await asyncio.gather(*stream, return_exceptions=True)

    asyncio.run(asyncio.wait_for(ask(), 60))
    assert (answered["B"], answered["large"]) == (90, 60)
    assert answered["A"] > 90
    assert max(len(run) for run in runs) == MAX_ROWS


def test_a_run_that_must_wait_for_a_thread_lets_nobody_change_place(load_model: LoadModel) -> None:
    model: Any = load_model(onnx_models.identity())
    key, _ = key_of(model.signature, x((1, 4)), None)
    predictor = Predictor()
    predictor.observe(key, 1, 1e-6)
    predictor.observe(key, 2, 1.0)  # So one row may run on the loop, and two may not.
    executor = Executor(
        model, limits=BatchLimits(MAX_ROWS), inline_seconds=1e-3, predictor=predictor
    )
    runs = runs_as_they_begin(executor)
    entered, go_on = threading.Event(), threading.Event()
    plain = model.infer

    def held(inputs: Any, *more: Any) -> Any:
        if inputs["x"].shape[1] == 6:
            entered.set()
            assert go_on.wait(10)
        return plain(inputs, *more)

    model.infer = held

    async def ask() -> None:
        # Two at once: a crowd, so who comes next waits for the end of the loop's turn.
        holding = [executor.submit(x((1, 6))) for _ in range(2)]
        assert await asyncio.to_thread(entered.wait, 10)
        first, other, last = (executor.submit(x((1, width))) for width in (4, 5, 4))
        await asyncio.sleep(0)
        assert executor.pending == 3
        executor.abandon(first, ConnectionError("gone"))
        go_on.set()
        await asyncio.gather(*(ticket.future for ticket in (*holding, other, last)))
        assert runs == [holding, [other], [last]]
        assert isinstance(first.future.exception(), ConnectionError)

    asyncio.run(asyncio.wait_for(ask(), 30))


def test_who_cannot_be_joined_by_the_next_of_its_shape_waits_for_no_company(
    load_model: LoadModel,
) -> None:
    executor = Executor(load_model(onnx_models.identity()), limits=BatchLimits(4, 20))

    async def ask() -> None:
        first, second = executor.submit(x((3, 4))), executor.submit(x((2, 4)))
        await asyncio.wait_for(first.future, 5)
        assert not second.future.done()

    asyncio.run(ask())

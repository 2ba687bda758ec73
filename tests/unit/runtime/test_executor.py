"""Queue, batches, deadlines and the place of a run, with real models in this process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime_kit import onnx_models

from slipway_runtime.artifact.digest import Digest
from slipway_runtime.errors import BadRequest, DeadlineExceeded, InferenceFailed, QueueFull
from slipway_runtime.inference import model as models
from slipway_runtime.inference.batching import BatchLimits
from slipway_runtime.inference.executor import Executor, RunTimes, Ticket
from slipway_runtime.inference.model import Model
from slipway_runtime.inference.timing import Predictor, rehearse

LoadModel = Callable[[bytes], Model]


def run(coroutine: Any) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 30))


def recorded(executor: Executor) -> list[int]:
    """The rows of each run, as they happen."""
    runs: list[int] = []
    executor.on_run = lambda rows, _times: runs.append(rows)
    return runs


def x(rows: int, marker: float = 0.0, width: int = 4) -> dict[str, Any]:
    return {"x": np.full((rows, width), marker, dtype=np.float32)}


async def outcomes(tickets: list[Ticket]) -> list[Any]:
    results = await asyncio.gather(*(t.future for t in tickets), return_exceptions=True)
    return [r if isinstance(r, BaseException) else r.outputs for r in results]


def test_what_arrives_together_runs_together_and_is_cut_apart_in_order(
    load_model: LoadModel,
) -> None:
    executor = Executor(load_model(onnx_models.identity()), limits=BatchLimits(32))
    runs = recorded(executor)

    async def ask() -> Any:
        return await outcomes([executor.submit(x(rows, rows)) for rows in (1, 3, 2)])

    answers = run(ask())
    assert runs == [6]
    assert [answer["y"].tolist() for answer in answers] == [
        [[float(rows)] * 4] * rows for rows in (1, 3, 2)
    ]


def test_of_a_shared_run_is_told_what_joining_and_cutting_took(load_model: LoadModel) -> None:
    executor = Executor(load_model(onnx_models.identity()), limits=BatchLimits(32))
    told: list[RunTimes] = []
    executor.on_run = lambda _rows, times: told.append(times)

    async def ask(count: int) -> float:
        tickets = [executor.submit(x(1)) for _ in range(count)]
        return (await tickets[0].future).ran

    whole = run(ask(3))
    alone = run(ask(1))
    assert min(told[0]) > 0
    assert sum(told[0]) == pytest.approx(whole)
    assert told[1] == RunTimes(0.0, pytest.approx(alone), 0.0)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(1, 3), st.booleans()), min_size=1, max_size=60
    ),
    st.integers(1, 16),
    st.integers(1, 3),
)
def test_no_row_is_ever_swapped(
    shared_identity: Model, requests: list[tuple[int, int, bool]], max_rows: int, threads: int
) -> None:
    executor = Executor(
        shared_identity, threads=threads, limits=BatchLimits(max_rows), inline_seconds=1e-5
    )
    runs = recorded(executor)

    async def one(marker: int, rows: int, width: int, pause: bool) -> bool:
        if pause:
            await asyncio.sleep(0)
        values = np.full((rows, width), marker, dtype=np.float32)
        values[:, 0] += np.arange(rows) / 16
        execution = await executor.submit({"x": values}).future
        return np.array_equal(execution.outputs["y"], values)

    async def ask() -> list[bool]:
        return await asyncio.gather(
            *(one(i, rows, width, pause) for i, (rows, width, pause) in enumerate(requests))
        )

    assert all(run(ask()))
    assert sum(runs) == sum(max(rows, 0) or 1 for rows, _, _ in requests)
    assert all(rows <= max(max_rows, 9) for rows in runs)
    assert executor.submitted == 0


@pytest.fixture(scope="module")
def shared_identity(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("identity") / "model.onnx"
    path.write_bytes(onnx_models.identity())
    identity = models.ModelIdentity("m", Digest("0" * 64))
    return models.load(
        identity, path, ["CPUExecutionProvider"], intra_op_threads=1, inter_op_threads=1
    )


def test_only_rows_of_equal_shape_share_a_run(load_model: LoadModel) -> None:
    executor = Executor(load_model(onnx_models.identity()), limits=BatchLimits(32))
    runs = recorded(executor)

    async def ask() -> None:
        await outcomes([executor.submit(x(1, width=width)) for width in (4, 5, 4)])

    run(ask())
    assert runs == [2, 1]


def test_only_requests_for_the_same_outputs_share_a_run(load_model: LoadModel) -> None:
    """Who names none wants all of them, in the model's order."""
    executor = Executor(load_model(onnx_models.two_inputs()), limits=BatchLimits(32))
    runs = recorded(executor)
    inputs = {name: np.zeros((1, 3), dtype=np.float32) for name in ("a", "b")}
    wanted = [
        None,
        ["difference"],
        ["total", "difference"],
        ["difference", "total"],
        ["difference"],
    ]

    async def ask() -> Any:
        return await outcomes([executor.submit(inputs, names) for names in wanted])

    answers = run(ask())
    assert runs == [2, 2, 1]
    assert [list(answer) for answer in answers] == [n or ["total", "difference"] for n in wanted]


def test_a_batch_has_at_most_so_many_rows_and_a_larger_request_runs_alone(
    load_model: LoadModel,
) -> None:
    executor = Executor(load_model(onnx_models.identity()), limits=BatchLimits(4))
    runs = recorded(executor)

    async def ask() -> None:
        await outcomes([executor.submit(x(rows)) for rows in (3, 2, 2, 9, 1)])

    run(ask())
    assert runs == [3, 4, 9, 1]


def test_the_oldest_waits_for_company_only_as_long_as_it_was_told(load_model: LoadModel) -> None:
    executor = Executor(load_model(onnx_models.identity()), limits=BatchLimits(32, 0.2))
    runs = recorded(executor)

    async def ask() -> float:
        loop = asyncio.get_running_loop()
        started = loop.time()
        first = executor.submit(x(1))
        await asyncio.sleep(0.05)
        await outcomes([first, executor.submit(x(1))])
        return loop.time() - started

    assert 0.19 < run(ask()) < 1
    assert runs == [2]


def test_a_full_batch_waits_for_nobody(load_model: LoadModel) -> None:
    executor = Executor(load_model(onnx_models.identity()), limits=BatchLimits(2, 20))

    async def ask() -> None:
        await asyncio.wait_for(outcomes([executor.submit(x(1)), executor.submit(x(1))]), 5)

    run(ask())


def test_what_is_full_does_not_wait_behind_another_shape_that_is_not(load_model: LoadModel) -> None:
    limits = BatchLimits(2, 1)
    executor = Executor(load_model(onnx_models.identity()), limits=limits)
    runs = recorded(executor)

    async def ask() -> tuple[bool, bool]:
        first = executor.submit(x(1))
        others = [executor.submit(x(rows, width=5)) for rows in (1, 1, 3)]
        await asyncio.wait_for(outcomes(others), 0.9)
        waits = not first.future.done()
        await outcomes([first])
        return waits, executor.pending == 0

    assert run(ask()) == (True, True)
    assert runs == [2, 3, 1]


def test_a_request_that_fails_in_a_batch_fails_alone(load_model: LoadModel) -> None:
    executor = Executor(load_model(onnx_models.lookup()), limits=BatchLimits(32))

    async def ask() -> Any:
        inputs = [{"index": np.array([i], dtype=np.int64)} for i in (0, 3, 2)]
        return await outcomes([executor.submit(one) for one in inputs])

    first, second, third = run(ask())
    assert first["y"].tolist() == [10]
    assert isinstance(second, BadRequest)
    assert third["y"].tolist() == [30]


def test_a_full_queue_refuses(load_model: LoadModel) -> None:
    executor = Executor(load_model(onnx_models.busy()), max_queue=2)
    rounds = {"rounds": np.array([200], dtype=np.int64)}

    async def ask() -> Any:
        tickets = [executor.submit(rounds) for _ in range(3)]
        assert executor.pending == 2
        with pytest.raises(QueueFull):
            executor.submit(rounds)
        return await outcomes(tickets)

    assert len(run(ask())) == 3


def test_a_full_queue_waits_for_no_company(load_model: LoadModel) -> None:
    executor = Executor(load_model(onnx_models.identity()), max_queue=2, limits=BatchLimits(32, 20))
    runs = recorded(executor)

    async def ask() -> Any:
        tickets = [executor.submit(x(1)) for _ in range(4)]
        return await asyncio.wait_for(outcomes(tickets), 5)

    assert len(run(ask())) == 4
    assert runs == [2, 2]


def test_what_cannot_be_cut_apart_is_run_alone_and_the_rest_still_together(
    load_model: LoadModel,
) -> None:
    executor = Executor(load_model(onnx_models.reshapes_to_triples()), limits=BatchLimits(8))
    runs = recorded(executor)

    async def ask(width: int) -> Any:
        return await outcomes([executor.submit(x(1, width=width)) for _ in range(2)])

    for width in (6, 6, 3):
        answers = run(ask(width))
        assert [answer["y"].shape for answer in answers] == [(width // 3, 3)] * 2
    # The first two share a run, which tells, and are then run alone within it.
    assert runs == [2, 1, 1, 2]


def test_shapes_without_end_that_cannot_be_cut_apart_end_all_batches(
    load_model: LoadModel,
) -> None:
    executor = Executor(load_model(onnx_models.reshapes_to_triples()), limits=BatchLimits(8))

    async def ask(width: int) -> Any:
        return await outcomes([executor.submit(x(1, width=width)) for _ in range(2)])

    for number in range(100):
        run(ask(3 * (number + 2)))
    assert executor.limits.max_rows == 1
    assert len(executor._apart) < 100


def hold_the_loop(seconds: float) -> None:
    """Let no other have its turn; threads go on."""
    time.sleep(seconds)


def test_in_a_long_turn_of_the_loop_who_waits_is_run_as_threads_get_free(
    load_model: LoadModel,
) -> None:
    """Where thousands of requests arrive at once, the loop does nothing else for a while."""
    executor = Executor(load_model(onnx_models.identity()), max_queue=4)

    async def ask() -> Any:
        tickets = list[Ticket]()
        deadline = time.monotonic() + 20
        while len(tickets) < 40:
            try:
                tickets.append(executor.submit(x(1, len(tickets))))
            except QueueFull:
                assert time.monotonic() < deadline, f"{len(tickets)} of 40 were taken in"
                hold_the_loop(0.001)
        return await outcomes(tickets)

    assert [answer["y"][0, 0] for answer in run(ask())] == list(range(40))


LONG = {"rounds": np.array([10**7], dtype=np.int64)}
SHORT = {"rounds": np.array([1], dtype=np.int64)}


def test_a_deadline_ends_the_waiting_and_the_run(load_model: LoadModel) -> None:
    executor = Executor(load_model(onnx_models.busy()))

    async def ask() -> Any:
        tickets = [
            executor.submit(LONG, timeout=0.3),
            executor.submit(SHORT, timeout=0.1),
            executor.submit(SHORT),
        ]
        return await asyncio.wait_for(outcomes(tickets), 5)

    running, waiting, after = run(ask())
    assert isinstance(running, DeadlineExceeded)
    assert "while running" in running.message
    assert isinstance(waiting, DeadlineExceeded)
    assert "while waiting" in waiting.message
    assert after["y"].tolist() == [256]


def test_a_run_goes_on_while_somebody_waits_for_it(load_model: LoadModel) -> None:
    executor = Executor(load_model(onnx_models.identity()), limits=BatchLimits(32))
    entered, go_on = threading.Event(), threading.Event()
    model: Any = executor._model
    plain = model.infer
    seen: list[Any] = []

    def slow(inputs: Any, outputs: Any = None, options: Any = None) -> Any:
        entered.set()
        seen.append(options)
        go_on.wait(5)
        return plain(inputs, outputs, options)

    model.infer = slow

    async def ask() -> Any:
        tickets = [executor.submit(x(1, 1)), executor.submit(x(1, 2))]
        await asyncio.to_thread(entered.wait, 5)
        executor.abandon(tickets[0], ConnectionError("gone"))
        assert seen[0].terminate is False
        go_on.set()
        return await outcomes(tickets)

    gone, other = run(ask())
    assert isinstance(gone, ConnectionError)
    assert other["y"].tolist() == [[2.0] * 4]


def threads_of_runs(executor: Executor, requests: int) -> list[str]:
    model: Any = executor._model
    plain, names = model.infer, list[str]()

    def infer(*arguments: Any) -> Any:
        names.append(threading.current_thread().name)
        return plain(*arguments)

    model.infer = infer

    async def ask() -> None:
        for _ in range(requests):
            await executor.submit(x(1)).future

    run(ask())
    return names


def test_a_run_like_none_before_is_on_a_thread_and_on_the_loop_once_known_to_be_short(
    load_model: LoadModel,
) -> None:
    executor = Executor(load_model(onnx_models.identity()), inline_seconds=0.02)
    names = threads_of_runs(executor, 5)
    assert names[0].startswith("inference")
    assert names[1:] == ["MainThread"] * 4


def test_the_first_run_is_where_what_load_measured_says(load_model: LoadModel) -> None:
    model = load_model(onnx_models.identity())
    predictor = Predictor()
    rehearse(model, predictor, [model.warm_up(x(1))])
    for bound, place in ((0.02, "MainThread"), (1e-9, "inference_0")):
        executor = Executor(model, inline_seconds=bound, predictor=predictor)
        assert threads_of_runs(executor, 1) == [place]


def test_what_load_measured_is_revised_by_what_runs_take(load_model: LoadModel) -> None:
    model: Any = load_model(onnx_models.identity())
    predictor = Predictor()
    rehearse(model, predictor, [model.warm_up(x(1))])
    plain = model.infer

    def slower(*arguments: Any) -> Any:
        time.sleep(0.03)
        return plain(*arguments)

    model.infer = slower
    executor = Executor(model, inline_seconds=0.02, predictor=predictor)
    assert threads_of_runs(executor, 2) == ["MainThread", "inference_0"]


def test_who_comes_alone_is_answered_at_once_and_a_crowd_shares_runs(
    load_model: LoadModel,
) -> None:
    executor = Executor(
        load_model(onnx_models.identity()), limits=BatchLimits(32), inline_seconds=0.02
    )
    runs = recorded(executor)

    async def ask() -> None:
        for _ in range(3):
            await executor.submit(x(1)).future
            await asyncio.sleep(0)
        assert executor.submit(x(1)).future.done()
        await asyncio.sleep(0)
        for _ in range(2):
            await outcomes([executor.submit(x(1)) for _ in range(8)])
            await asyncio.sleep(0)

    run(ask())
    assert runs[:4] == [1] * 4
    assert runs[-1] == 8


def test_without_a_bound_every_run_is_on_a_thread(load_model: LoadModel) -> None:
    executor = Executor(load_model(onnx_models.identity()))
    assert all(name.startswith("inference") for name in threads_of_runs(executor, 3))


def test_the_time_that_a_thread_waits_does_not_make_a_run_long(
    load_model: LoadModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it waits for the interpreter's lock while the event loop is busy."""
    model = load_model(onnx_models.identity())
    at_once = model.infer

    def waits(*arguments: Any, **named: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.1)
        return at_once(*arguments, **named)

    monkeypatch.setattr(model, "infer", waits)
    executor = Executor(model, inline_seconds=0.05)

    async def comes_to_the_loop() -> bool:
        await executor.submit(x(1)).future
        return executor.submit(x(1)).future.done()

    assert run(comes_to_the_loop())


def test_a_batch_that_is_too_large_to_join_is_run_one_by_one(
    load_model: LoadModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_little_memory(*_: Any) -> Any:
        raise MemoryError

    executor = Executor(load_model(onnx_models.identity()), limits=BatchLimits(8))
    monkeypatch.setattr("slipway_runtime.inference.executor.merge", too_little_memory)

    async def ask() -> Any:
        return await outcomes([executor.submit(x(1, row)) for row in range(3)])

    assert [answer["y"][0, 0] for answer in run(ask())] == [0, 1, 2]


@pytest.mark.parametrize("inline_seconds", [0.0, 1.0])
def test_a_run_that_breaks_in_the_runtime_is_told_to_each_of_its_requests(
    load_model: LoadModel, monkeypatch: pytest.MonkeyPatch, inline_seconds: float
) -> None:
    def defect(*_: Any) -> Any:
        raise TypeError

    class Short(Predictor):
        def predict(self, *_: Any) -> float:
            return 0.0

    model, limits = load_model(onnx_models.identity()), BatchLimits(8)
    executor = Executor(model, limits=limits, inline_seconds=inline_seconds, predictor=Short())
    monkeypatch.setattr("slipway_runtime.inference.executor.merge", defect)

    async def ask() -> Any:
        return await outcomes([executor.submit(x(1)) for _ in range(3)])

    answers = run(ask())
    assert [type(answer) for answer in answers] == [InferenceFailed] * 3
    assert executor.pending == 0

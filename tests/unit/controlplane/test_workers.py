"""Every way in which a reconcile may end is put in its place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest
from fake_cluster.virtual_time import run

from slipway_operator.app.metrics import Metrics
from slipway_operator.app.queue import WorkQueue
from slipway_operator.app.workers import Workers
from slipway_operator.reconcile.kube import ApiError, NotLeaderError, TransportError
from slipway_operator.reconcile.reconciler import Result, UnsettledError

KEY = ("payments", "fraud")


class Scripted:
    """Ends each reconcile as the script says, and the later ones well."""

    def __init__(self, *script: Exception | Result) -> None:
        self.script = list(script)
        self.times: list[float] = []

    async def reconcile(self, key: tuple[str, str]) -> Result:
        self.times.append(asyncio.get_running_loop().time())
        end = self.script.pop(0) if self.script else Result("complete")
        if isinstance(end, Exception):
            raise end
        return end


def worked(scripted: Scripted, seconds: float, check: Callable[[Metrics], None]) -> list[float]:
    async def main() -> list[float]:
        queue, metrics = WorkQueue(), Metrics()
        workers = asyncio.create_task(Workers(queue, scripted, metrics).run(2))  # type: ignore[arg-type]
        begin = asyncio.get_running_loop().time()
        queue.add(KEY)
        await asyncio.sleep(seconds)
        check(metrics)
        workers.cancel()
        await asyncio.gather(workers, return_exceptions=True)
        return [round(at - begin, 2) for at in scripted.times]

    return run(main())


@pytest.mark.parametrize(
    ("error", "counted"),
    [
        (TransportError("no route"), "TransportError"),
        (ApiError(503, "ServiceUnavailable", "no"), "ServiceUnavailable"),
        (UnsettledError("moving"), "UnsettledError"),
        (KeyError("a defect of ours"), "Defect"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_failed_is_tried_again_after_longer_and_longer_and_is_counted(error, counted):
    def check(metrics: Metrics) -> None:
        assert metrics.errors.labels(counted)._value.get() == 3

    times = worked(Scripted(error, error, error), 60, check)
    assert times == [0, 0.05, 0.15, 0.35]


def test_what_wants_another_look_gets_it_then():
    times = worked(Scripted(Result("failed", 30.0)), 100, lambda _: None)
    assert times == [0, 30.0]


def test_what_is_done_is_left_alone():
    assert worked(Scripted(), 3600, lambda _: None) == [0]


def test_the_rest_of_what_is_unfinished_follows_at_once():
    assert worked(Scripted(Result("rolling out", unfinished=True)), 60, lambda _: None) == [0, 0]


def test_what_is_urgent_waits_for_no_slow_answer_to_the_rest():
    slow = [("payments", f"slow-{number}") for number in range(20)]
    begun: list[tuple[str, str]] = []

    class Slow:
        async def reconcile(self, key: tuple[str, str]) -> Result:
            begun.append(key)
            await asyncio.sleep(3600 if key in slow else 0)
            return Result("complete")

    async def main() -> None:
        queue = WorkQueue()
        workers = asyncio.create_task(Workers(queue, Slow(), Metrics()).run(2))  # type: ignore[arg-type]
        for key in slow:
            queue.add(key)
        await asyncio.sleep(60)
        assert begun == slow[:2]
        queue.add(KEY, urgent=True)
        await asyncio.sleep(0.01)
        assert begun[2:] == [KEY]
        workers.cancel()
        await asyncio.gather(workers, return_exceptions=True)

    run(main())


def test_thousands_of_looks_that_wait_for_nothing_leave_others_their_turns():
    async def main() -> None:
        queue, scripted = WorkQueue(), Scripted()
        for number in range(1000):
            queue.add(("payments", f"model-{number}"))
        workers = asyncio.create_task(Workers(queue, scripted, Metrics()).run(2))  # type: ignore[arg-type]
        turns: list[int] = []
        while len(scripted.times) < 1000:
            await asyncio.sleep(0)
            turns.append(len(scripted.times))
        workers.cancel()
        await asyncio.gather(workers, return_exceptions=True)
        assert max(later - before for before, later in pairwise(turns)) <= 2

    run(main())


def test_who_leads_no_more_stops_all_work():
    async def main() -> None:
        queue = WorkQueue()
        scripted = Scripted(NotLeaderError())
        workers = asyncio.create_task(Workers(queue, scripted, Metrics()).run(3))  # type: ignore[arg-type]
        queue.add(KEY)
        with pytest.raises(NotLeaderError):
            await asyncio.wait_for(workers, 1)

    run(main())

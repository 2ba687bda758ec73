"""How the parts of one operator process begin, each when those before it let it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fake_cluster import samples
from prometheus_client import generate_latest

from slipway_operator.app import process
from slipway_operator.reconcile.clock import ServerClock
from slipway_operator.reconcile.kinds import MODEL_DEPLOYMENT, Kind
from slipway_operator.reconcile.kube import ApiError

Json = dict[str, Any]


class Kube:
    """A cluster without a single object, and at first without the CustomResourceDefinition."""

    def __init__(self) -> None:
        self.defined = False
        self.lists = 0

    def guarded(self, _may_write: object) -> Kube:
        return self

    async def pages(
        self, kind: Kind, _namespace: str | None, _selector: str | None
    ) -> AsyncIterator[tuple[list[Json], str]]:
        self.lists += 1
        if kind is MODEL_DEPLOYMENT and not self.defined:
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        yield [], "9"


async def until(holds: Any) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - nothing tells when it does
            await asyncio.sleep(0.01)


async def test_watches_begin_once_every_kind_can_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    watched: list[Json] = []

    async def operator(**given: Any) -> None:
        watched.append(given)
        given["ready_flag"].set()
        await given["stop_flag"].wait()

    monkeypatch.setattr("slipway_operator.app.process.kopf.operator", operator)
    monkeypatch.setattr("slipway_operator.app.process._FIRST_SYNC_RETRY_SECONDS", 0.01)
    parts: Any = process
    kube: Any = Kube()
    made = parts._Operator(samples.settings(), kube, kube, ServerClock())
    stop, heeded = asyncio.Event(), asyncio.Event()
    watching = asyncio.create_task(made.watch(stop, heeded.set))
    working = asyncio.create_task(made.work())
    await until(lambda: kube.lists > 3)
    assert not watched
    kube.defined = True
    await until(lambda: watched)
    await asyncio.wait_for(heeded.wait(), 5)
    stop.set()
    await asyncio.wait_for(watching, 5)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def test_who_is_stopped_before_that_ends_at_once() -> None:
    parts: Any = process
    kube: Any = Kube()
    made = parts._Operator(samples.settings(), kube, kube, ServerClock())
    stop = asyncio.Event()
    watching = asyncio.create_task(made.watch(stop, lambda: None))
    stop.set()
    await asyncio.wait_for(watching, 5)


async def test_who_does_not_lead_tells_of_no_queue() -> None:
    parts: Any = process
    kube: Any = Kube()
    made = parts._Operator(samples.settings(), kube, kube, ServerClock())
    made.queue.add(("payments", "fraud"))
    assert "slipway_operator_queue_depth 0.0" in generate_latest(made.metrics.registry).decode()
    made.elector.is_leader = lambda: True
    assert "slipway_operator_queue_depth 1.0" in generate_latest(made.metrics.registry).decode()

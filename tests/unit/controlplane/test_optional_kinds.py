"""Which optional kinds there are, asked of an API server that lacks some or denies them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from fake_cluster import samples

from slipway_operator.app.optional_kinds import OptionalKinds
from slipway_operator.app.queue import WorkQueue
from slipway_operator.reconcile.kinds import HTTP_ROUTE, MODEL_DEPLOYMENT, Kind
from slipway_operator.reconcile.kube import ApiError
from slipway_operator.reconcile.store import Store

Json = dict[str, Any]
KEY = ("payments", "fraud")


def model() -> Json:
    made = samples.model_object()
    made["metadata"] |= {"uid": "m", "resourceVersion": "2", "generation": 1}
    return made


def route() -> Json:
    metadata = {
        "name": KEY[1],
        "namespace": KEY[0],
        "uid": "r",
        "resourceVersion": "3",
        "labels": {"slipway.dev/model": KEY[1]},
    }
    return {"metadata": metadata, "spec": {}}


class Kube:
    """Lists one HTTPRoute in the namespace payments, unless a status is to be answered there."""

    def __init__(self) -> None:
        self.refusals: dict[str | None, int] = {}

    async def pages(
        self, kind: Kind, namespace: str | None, _selector: str | None
    ) -> AsyncIterator[tuple[list[Json], str]]:
        if (status := self.refusals.get(namespace)) is not None:
            raise ApiError(status, "", "refused")
        yield [route()] if kind is HTTP_ROUTE and namespace in (None, KEY[0]) else [], "9"


class Cluster:
    def __init__(self, *namespaces: str) -> None:
        self.kube, self.store, self.queue = Kube(), Store(), WorkQueue()
        on = samples.settings(
            integrations={"gateway": {"enabled": True}}, namespaces=list(namespaces)
        )
        self.optional = OptionalKinds(self.kube, self.store, self.queue, on)  # type: ignore[arg-type]
        self.store.put(MODEL_DEPLOYMENT, model())

    async def served(self, namespace: str = KEY[0]) -> bool:
        await self.optional.once()
        return HTTP_ROUTE.name in self.optional.served(namespace)

    def knows_the_route(self) -> bool:
        return KEY[1] in self.store.get(KEY, HTTP_ROUTE)


async def test_a_kind_that_can_be_listed_is_served():
    cluster = Cluster()
    assert await cluster.served()
    assert cluster.knows_the_route()
    assert len(cluster.queue) == 1


@pytest.mark.parametrize(("status", "known"), [(403, True), (404, False)])
async def test_one_that_cannot_is_not_and_its_objects_are_gone_only_with_the_kind(
    status: int, *, known: bool
):
    cluster = Cluster()
    assert await cluster.served()
    cluster.kube.refusals[None] = status
    assert not await cluster.served()
    assert cluster.knows_the_route() is known


async def test_one_that_is_denied_in_one_namespace_is_served_in_the_others():
    cluster = Cluster("other", *KEY[:1])
    cluster.kube.refusals["other"] = 403
    assert await cluster.served()
    assert not await cluster.served("other")
    cluster.kube.refusals.clear()
    assert await cluster.served("other")


async def test_any_other_answer_leaves_what_was_found():
    cluster = Cluster()
    assert await cluster.served()
    cluster.kube.refusals[None] = 503
    await cluster.optional.once()
    assert HTTP_ROUTE.name in cluster.optional.served(KEY[0])

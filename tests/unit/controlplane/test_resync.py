"""The lists that correct what watches have told, and make sure that every key is looked at."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fake_cluster.virtual_time import run

from slipway_operator.app.queue import WorkQueue
from slipway_operator.app.resync import Resync
from slipway_operator.reconcile import kinds
from slipway_operator.reconcile.kinds import Kind
from slipway_operator.reconcile.kube import ApiError, TransportError
from slipway_operator.reconcile.store import Store

Json = dict[str, Any]
_PERIOD = 60.0


def model(number: int) -> Json:
    name = f"m{number}"
    return {
        "metadata": {
            "name": name,
            "namespace": "payments",
            "uid": f"uid-of-{name}",
            "resourceVersion": "5",
        },
        "spec": {},
    }


class FakeKube:
    """Gives ModelDeployments in pages of two, and nothing of other kinds."""

    def __init__(self, *models: Json) -> None:
        self.models = list(models)
        self.down = False
        self.denied: set[tuple[str | None, Kind]] = set()
        """Where, and what, is answered with 403."""
        self.whole = 0
        """How many objects were read whole."""

    async def pages(
        self,
        kind: Kind,
        namespace: str | None,
        selector: str | None,
        *,
        only_metadata: bool = False,
    ) -> AsyncIterator[tuple[list[Json], str]]:
        if self.down:
            raise TransportError("down")
        if (namespace, kind) in self.denied:
            raise ApiError(403, "Forbidden", f"{kind.plural} in {namespace}: no rights")
        found = self.models if kind is kinds.MODEL_DEPLOYMENT else []
        self.whole += 0 if only_metadata else len(found)
        if only_metadata:
            found = [{"metadata": obj["metadata"]} for obj in found]
        for start in range(0, len(found) or 1, 2):
            yield found[start : start + 2], "9"


async def drained(queue: WorkQueue) -> list[str]:
    """The names of the keys that wait; each counts as looked at."""
    names: list[str] = []
    while len(queue):
        key = await queue.get()
        queue.done(key)
        names.append(key[1])
    return sorted(names)


def test_all_pages_are_taken_in():
    async def main() -> None:
        kube, store, queue = FakeKube(*map(model, range(5))), Store(), WorkQueue()
        await Resync(kube, store, queue, []).once()  # type: ignore[arg-type]
        assert await drained(queue) == ["m0", "m1", "m2", "m3", "m4"]
        assert len(store.models()) == 5

    run(main())


def test_what_no_page_has_is_gone_and_looked_at():
    async def main() -> None:
        kube, store, queue = FakeKube(*map(model, range(5))), Store(), WorkQueue()
        resync = Resync(kube, store, queue, [])  # type: ignore[arg-type]
        await resync.once()
        await drained(queue)
        del kube.models[0]
        await resync.once()
        assert await drained(queue) == ["m0"]
        assert ("payments", "m0") not in store.models()

    run(main())


@pytest.mark.parametrize(
    ("happens", "looked_at", "read_whole"),
    [
        (lambda models: None, [], 0),
        (lambda models: models.pop(0), ["m0"], 0),
        (lambda models: models.append(model(5)), ["m5"], 6),
        (lambda models: models.__setitem__(1, changed(models[1])), ["m1"], 5),
    ],
    ids=["nothing", "one vanished", "one is new", "one changed"],
)
def test_a_later_list_reads_whole_objects_only_where_there_is_news(happens, looked_at, read_whole):
    async def main() -> None:
        kube, store, queue = FakeKube(*map(model, range(5))), Store(), WorkQueue()
        resync = Resync(kube, store, queue, [])  # type: ignore[arg-type]
        await resync.once()
        await drained(queue)
        kube.whole = 0
        happens(kube.models)
        running = asyncio.create_task(resync.run(_PERIOD))
        await asyncio.sleep(1.3 * _PERIOD)
        running.cancel()
        # Beside the share of what has not changed.
        share = {f"m{n}" for n in range(6) if zlib.crc32(f"payments/m{n}".encode()) % 12 == 0}
        assert {*await drained(queue)} - share == {*looked_at} - share
        assert kube.whole == read_whole
        assert {key[1] for key in store.models()} == {m["metadata"]["name"] for m in kube.models}

    run(main())


def changed(obj: Json) -> Json:
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": "7"}}


def test_what_has_not_changed_is_looked_at_once_in_twelve_times():
    async def main() -> None:
        kube, store, queue = FakeKube(*map(model, range(50))), Store(), WorkQueue()
        resync = Resync(kube, store, queue, [])  # type: ignore[arg-type]
        await resync.once()
        await drained(queue)
        running = asyncio.create_task(resync.run(_PERIOD))
        looked_at: list[str] = []
        most = 0
        # The jitter is a fifth at most: twelve turns are over, and the fifteenth has not begun.
        for _ in range(145):
            await asyncio.sleep(_PERIOD / 10)
            now = await drained(queue)
            most = max(most, len(now))
            looked_at += now
        running.cancel()
        assert len(set(looked_at)) == 50
        assert len(looked_at) < 100
        assert most < 20

    run(main())


@pytest.mark.parametrize(
    ("quiet", "found"),
    [
        pytest.param(60, True, id="a watch that begins anew has a gap"),
        pytest.param(1, False, id="the first lists have none"),
    ],
)
def test_what_vanished_in_a_gap_of_the_watches_is_found_at_once(quiet: float, *, found: bool):
    async def main() -> None:
        kube, store, queue = FakeKube(*map(model, range(5))), Store(), WorkQueue()
        clock = asyncio.get_running_loop().time
        resync = Resync(kube, store, queue, [], clock)  # type: ignore[arg-type]
        await resync.once()
        resync.listed()
        await drained(queue)
        running = asyncio.create_task(resync.run(1000 * _PERIOD))
        await asyncio.sleep(quiet)
        del kube.models[0]
        for _ in range(3):
            resync.listed()
            await asyncio.sleep(1)
        assert (("payments", "m0") not in store.models()) == found
        assert ("m0" in await drained(queue)) == found
        running.cancel()

    run(main())


def test_what_vanished_in_a_gap_is_looked_for_until_the_api_server_answers():
    async def main() -> None:
        kube, store, queue = FakeKube(*map(model, range(5))), Store(), WorkQueue()
        clock = asyncio.get_running_loop().time
        resync = Resync(kube, store, queue, [], clock)  # type: ignore[arg-type]
        await resync.once()
        running = asyncio.create_task(resync.run(1000 * _PERIOD))
        await asyncio.sleep(_PERIOD)
        del kube.models[0]
        kube.down = True
        resync.listed()
        await asyncio.sleep(_PERIOD)
        assert ("payments", "m0") in store.models()
        kube.down = False
        await asyncio.sleep(10)
        assert ("payments", "m0") not in store.models()
        running.cancel()

    run(main())


GONE = ("gone", kinds.NETWORK_POLICY)


def test_a_namespace_without_rights_keeps_no_other_one_waiting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        kube, store, queue = FakeKube(model(1)), Store(), WorkQueue()
        kube.denied.add(GONE)
        resync = Resync(kube, store, queue, ["gone", "payments"])  # type: ignore[arg-type]
        await resync.once()
        assert await drained(queue) == ["m1"]
        assert resync.knows("payments")
        running = asyncio.create_task(resync.run(_PERIOD))
        await asyncio.sleep(5 * _PERIOD)
        running.cancel()

    run(main())
    assert len([line for line in caplog.messages if "cannot be listed" in line]) == 1
    assert "resync failed" not in caplog.messages


def test_of_a_namespace_that_was_never_listed_whole_nothing_is_decided() -> None:
    async def main() -> None:
        kube, store, queue = FakeKube(model(1)), Store(), WorkQueue()
        kube.denied.add(("payments", kinds.NETWORK_POLICY))
        resync = Resync(kube, store, queue, ["other", "payments"])  # type: ignore[arg-type]
        await resync.once()
        await drained(queue)
        running = asyncio.create_task(resync.run(1000 * _PERIOD))
        assert not resync.knows("payments")
        kube.denied.clear()
        await asyncio.sleep(5)
        # Whoever met something in there had it looked at.
        assert resync.knows("payments")
        assert await drained(queue) == ["m1"]
        running.cancel()

    run(main())


def test_a_namespace_that_loses_its_rights_keeps_what_is_known_of_it() -> None:
    async def main() -> None:
        kube, store, queue = FakeKube(model(1)), Store(), WorkQueue()
        resync = Resync(kube, store, queue, ["payments", "other"])  # type: ignore[arg-type]
        await resync.once()
        kube.denied = {("payments", kind) for kind in kinds.WATCHED}
        running = asyncio.create_task(resync.run(_PERIOD))
        await asyncio.sleep(5 * _PERIOD)
        assert store.models() == [("payments", "m1")]
        assert resync.knows("payments")
        running.cancel()

    run(main())


@pytest.mark.parametrize("namespaces", [[], ["gone"]], ids=["the whole cluster", "the only one"])
def test_without_rights_anywhere_there_is_no_list(namespaces: list[str]) -> None:
    async def main() -> None:
        kube = FakeKube()
        kube.denied = {(namespace, kinds.POD) for namespace in (None, "gone")}
        resync = Resync(kube, Store(), WorkQueue(), namespaces)  # type: ignore[arg-type]
        with pytest.raises(ApiError, match="no rights"):
            await resync.once()

    run(main())

"""One leader at a time, whatever the API server and the network do; in virtual time."""

from __future__ import annotations

import asyncio
import copy
import math
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from fake_cluster.virtual_time import run
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway_operator.api.settings import LeaderElection
from slipway_operator.app.leader import LeaderElector
from slipway_operator.reconcile.kinds import Kind
from slipway_operator.reconcile.kube import ApiError, TransportError

Json = dict[str, Any]
TIMES = LeaderElection()
DURATION = math.ceil(TIMES.duration_seconds)
BETWEEN_RENEWALS = TIMES.renew_deadline_seconds / 2
CONFIGURATIONS = [
    TIMES,
    LeaderElection(duration_seconds=1.4, renew_deadline_seconds=1.3, retry_period_seconds=0.2),
    LeaderElection(duration_seconds=15, renew_deadline_seconds=10, retry_period_seconds=2),
]


class FakeLease:
    """The API server's part: one Lease with optimistic locking, behind a network."""

    def __init__(self) -> None:
        self.lease: Json | None = None
        self.version = 0
        self.writes: list[str] = []
        self.there: Callable[[], Coroutine[Any, Any, None]] = nothing
        self.back: Callable[[], Coroutine[Any, Any, None]] = nothing

    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        await self.there()
        found = copy.deepcopy(self.lease)
        await self.back()
        return found

    async def create(self, kind: Kind, obj: Json) -> Json:
        await self.there()
        if self.lease is not None:
            raise ApiError(409, "AlreadyExists", "exists")
        return await self._store(obj)

    async def replace(self, kind: Kind, obj: Json) -> Json:
        await self.there()
        assert self.lease is not None
        if obj["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", "modified")
        return await self._store(obj)

    async def _store(self, obj: Json) -> Json:
        self.version += 1
        self.lease = copy.deepcopy(obj)
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        self.writes.append(obj["spec"]["holderIdentity"])
        answer = copy.deepcopy(self.lease)
        await self.back()
        return answer

    @property
    def holder(self) -> str:
        assert self.lease is not None
        return self.lease["spec"]["holderIdentity"]


async def nothing() -> None:
    pass


async def refuse() -> None:
    raise TransportError("no route")


async def slow() -> None:
    await asyncio.sleep(0.2)


async def hang() -> None:
    await asyncio.sleep(10**6)


def elector(server: FakeLease, identity: str, times: LeaderElection = TIMES) -> LeaderElector:
    loop = asyncio.get_running_loop()
    return LeaderElector(server, times, "slipway", identity, loop.time)  # type: ignore[arg-type]


async def leader(server: FakeLease, identity: str) -> tuple[LeaderElector, asyncio.Task[None]]:
    found = elector(server, identity)
    task = asyncio.create_task(found.run())
    await found.elected.wait()
    return found, task


async def stop(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_the_first_one_creates_the_lease_and_holds_it():
    async def main() -> None:
        server = FakeLease()
        one, task = await leader(server, "one")
        for _ in range(100):
            assert one.is_leader()
            await asyncio.sleep(0.3)
        assert server.holder == "one"
        assert server.lease["spec"]["leaseTransitions"] == 0  # type: ignore[index]
        await stop(task)

    run(main())


def test_it_is_renewed_seldom_while_all_is_well():
    async def main() -> int:
        server = FakeLease()
        _, task = await leader(server, "one")
        await asyncio.sleep(60)
        await stop(task)
        return len(server.writes)

    assert run(main()) == 60 / BETWEEN_RENEWALS  # the first one creates it


def test_it_is_renewed_more_often_while_answers_are_slow():
    async def main() -> int:
        server = FakeLease()
        _, task = await leader(server, "one")
        server.back = slow
        await asyncio.sleep(60)
        await stop(task)
        return len(server.writes)

    assert run(main()) == pytest.approx(60 / (TIMES.renew_deadline_seconds / 3), abs=1)


def test_a_renewal_that_failed_is_tried_again_soon():
    async def main() -> None:
        server = FakeLease()
        one, task = await leader(server, "one")
        server.there = refuse
        await asyncio.sleep(BETWEEN_RENEWALS + 0.01)
        server.there = nothing
        before = len(server.writes)
        await asyncio.sleep(TIMES.retry_period_seconds)
        assert len(server.writes) == before + 1
        assert one.is_leader()
        await stop(task)

    run(main())


def test_another_takes_over_only_after_the_whole_duration_without_a_change():
    async def main() -> float:
        server = FakeLease()
        _, task = await leader(server, "one")
        two = elector(server, "two")
        waiting = asyncio.create_task(two.run())
        await asyncio.sleep(60)
        assert not two.elected.is_set()
        await stop(task)
        died = asyncio.get_running_loop().time()
        await two.elected.wait()
        await stop(waiting)
        assert server.lease["spec"]["leaseTransitions"] == 1  # type: ignore[index]
        return asyncio.get_running_loop().time() - died

    waited = run(main())
    # That of its last renewal is seen at most a retry period after it was written.
    latest = DURATION + TIMES.retry_period_seconds + 0.1
    assert DURATION - BETWEEN_RENEWALS <= waited <= latest


def test_a_holder_whose_clock_is_years_off_is_not_taken_for_expired():
    async def main() -> None:
        server = FakeLease()
        one = elector(server, "one")
        assert await one._attempt()
        server.lease["spec"]["renewTime"] = "1999-01-01T00:00:00.000000Z"  # type: ignore[index]
        two = elector(server, "two")
        assert not await two._attempt()

    run(main())


def test_given_back_it_is_taken_at_once():
    async def main() -> float:
        server = FakeLease()
        one, task = await leader(server, "one")
        two = elector(server, "two")
        waiting = asyncio.create_task(two.run())
        await asyncio.sleep(10)
        await stop(task)
        await one.release()
        assert not one.is_leader()
        begin = asyncio.get_running_loop().time()
        await two.elected.wait()
        await stop(waiting)
        return asyncio.get_running_loop().time() - begin

    assert run(main()) <= TIMES.retry_period_seconds + 0.01


def test_given_back_though_a_renewal_was_cut_off_half_way():
    async def main() -> None:
        server = FakeLease()
        one, task = await leader(server, "one")
        server.there = hang
        await asyncio.sleep(BETWEEN_RENEWALS + 0.1)
        await stop(task)
        server.there = nothing
        await one.release()
        assert server.holder == ""

    run(main())


@pytest.mark.parametrize("held", ["by nobody", "by another"])
def test_only_the_holder_gives_it_back(held):
    async def main() -> None:
        server = FakeLease()
        one, two = elector(server, "one"), elector(server, "two")
        if held == "by another":
            assert await two._attempt()
        count = len(server.writes)
        await one.release()
        assert len(server.writes) == count

    run(main())


def test_one_that_reads_another_name_in_its_lease_leads_no_more():
    async def main() -> None:
        server = FakeLease()
        one, task = await leader(server, "one")
        assert server.lease is not None
        server.lease["spec"]["holderIdentity"] = "two"
        server.lease["metadata"]["resourceVersion"] = "rewritten"
        # The renewal fails, and the next attempt reads who has it.
        await asyncio.sleep(BETWEEN_RENEWALS + TIMES.retry_period_seconds + 0.1)
        assert not one.is_leader()
        await asyncio.wait_for(task, 1)

    run(main())


@pytest.mark.parametrize("spec", [{}, None], ids=["none", "null"])
def test_a_lease_without_a_spec_is_taken(spec):
    async def main() -> None:
        server = FakeLease()
        server.lease = {"metadata": {"name": "x", "resourceVersion": "1"}}
        if spec is None:
            server.lease["spec"] = None
        one, task = await leader(server, "one")
        assert server.holder == "one"
        await stop(task)
        await one.release()
        assert server.holder == ""

    run(main())


@pytest.mark.parametrize("error", [TransportError("x"), ApiError(409, "Conflict", "x"), KeyError()])
def test_whatever_goes_wrong_the_lease_counts_as_not_renewed(error):
    async def main() -> None:
        server = FakeLease()
        one = elector(server, "one")
        assert await one._attempt()

        async def fail() -> None:
            raise error

        server.there = fail
        until = one._valid_until
        assert not await one._attempt()
        assert one._valid_until == until
        server.there = nothing
        assert await one._attempt()

    run(main())


def test_a_conflict_while_creating_means_that_another_has_it():
    async def main() -> None:
        server = FakeLease()
        one, two = elector(server, "one"), elector(server, "two")

        async def slow() -> None:
            await asyncio.sleep(0.1)

        server.there = slow
        assert sorted(await asyncio.gather(one._attempt(), two._attempt())) == [False, True]
        assert one.is_leader() is not two.is_leader()

    run(main())


@pytest.mark.parametrize("fault", [refuse, hang], ids=["refused", "hanging"])
def test_a_leader_stops_by_its_own_clock_before_the_lease_can_be_taken(fault):
    async def main() -> None:
        server = FakeLease()
        one, task = await leader(server, "one")
        await asyncio.sleep(5)
        server.there = fault
        cut_off = asyncio.get_running_loop().time()
        while one.is_leader():  # noqa: ASYNC110 - time is the subject
            await asyncio.sleep(0.01)
        assert asyncio.get_running_loop().time() - cut_off <= TIMES.renew_deadline_seconds + 0.02
        await asyncio.wait_for(task, DURATION * 2)

    run(main())


def test_one_that_waits_gives_up_a_request_that_hangs_and_leads_later():
    async def main() -> None:
        server = FakeLease()
        server.there = hang
        one = elector(server, "one")
        task = asyncio.create_task(one.run())
        await asyncio.sleep(1)
        server.there = nothing
        within = TIMES.renew_deadline_seconds + TIMES.retry_period_seconds
        await asyncio.wait_for(one.elected.wait(), within)
        await stop(task)

    run(main())


def test_a_short_interruption_costs_nothing():
    async def main() -> None:
        server = FakeLease()
        one, task = await leader(server, "one")
        server.there = refuse
        await asyncio.sleep(TIMES.renew_deadline_seconds - 3 * TIMES.retry_period_seconds)
        server.there = nothing
        for _ in range(50):
            await asyncio.sleep(0.1)
            assert one.is_leader()
        await stop(task)

    run(main())


@pytest.mark.parametrize("times", CONFIGURATIONS, ids=lambda t: f"{t.duration_seconds:g} s")
@pytest.mark.parametrize("lost", ["the request", "the answer"])
def test_a_connection_that_hangs_once_ends_no_leader(times, lost):
    """As one through a load balancer that is gone: nothing comes back, and nothing is closed."""

    async def main() -> None:
        server = FakeLease()
        one = elector(server, "one", times)
        task = asyncio.create_task(one.run())
        await one.elected.wait()
        hung: list[float] = []

        async def hang_once() -> None:
            if not hung:
                hung.append(asyncio.get_running_loop().time())
                await hang()

        if lost == "the request":
            server.there = hang_once
        else:
            server.back = hang_once
        for _ in range(400):
            await asyncio.sleep(0.05)
            assert one.is_leader()
        assert hung
        await stop(task)

    run(main())


@pytest.mark.parametrize("times", CONFIGURATIONS, ids=lambda t: f"{t.duration_seconds:g} s")
def test_an_api_server_that_is_slow_ends_no_leader(times):
    """Each renewal takes nearly half of the deadline: two in a row must fit into it."""

    async def main() -> None:
        server = FakeLease()
        one = elector(server, "one", times)
        task = asyncio.create_task(one.run())
        await one.elected.wait()

        async def slow() -> None:
            await asyncio.sleep(0.22 * times.renew_deadline_seconds)

        server.there = server.back = slow
        for _ in range(400):
            await asyncio.sleep(0.05)
            assert one.is_leader()
        await stop(task)

    run(main())


def test_while_the_api_server_is_away_it_is_asked_once_a_retry_period():
    async def main() -> int:
        server = FakeLease()
        await leader(server, "one")
        asked: list[None] = []

        async def count() -> None:
            asked.append(None)
            raise TransportError("no route")

        two = elector(server, "two")
        waiting = asyncio.create_task(two.run())
        await asyncio.sleep(0.1)
        server.there = count
        await asyncio.sleep(20)
        await stop(waiting)
        return len(asked)

    # Two processes ask; the first one ends.
    assert run(main()) <= 20 / TIMES.retry_period_seconds + 12


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    loss=st.sampled_from([0.0, 0.2, 0.5]),
    delay=st.sampled_from([0.05, 0.5, 2.0]),
    times=st.sampled_from(CONFIGURATIONS),
)
def test_never_are_there_two_leaders_at_an_instant(seed, loss, delay, times):
    chance = random.Random(seed)

    async def network() -> None:
        await asyncio.sleep(chance.random() * delay)
        if chance.random() < loss:
            raise TransportError("lost")

    async def main() -> None:
        server = FakeLease()
        server.there = server.back = network
        alive: dict[str, LeaderElector] = {}

        async def process(name: str) -> None:
            life = 0
            while True:
                life += 1
                one = elector(server, f"{name}-{life}", times)
                alive[name] = one
                running = asyncio.create_task(one.run())
                await asyncio.wait({running}, timeout=chance.random() * 60)
                await stop(running)
                if chance.random() < 0.5:
                    await one.release()
                # Another is put in its place; until it lapses, the dead one would still write.
                while one.is_leader():  # noqa: ASYNC110 - time is the subject
                    await asyncio.sleep(0.01)
                await asyncio.sleep(chance.random())

        tasks = [asyncio.create_task(process(name)) for name in ("one", "two", "three")]
        terms = 0
        for _ in range(3000):
            leading = [name for name, one in alive.items() if one.is_leader()]
            assert len(leading) <= 1, leading
            terms += len(leading)
            await asyncio.sleep(0.04)
        if loss == 0 and delay < 1:
            assert terms > 500
        await stop(*tasks)

    run(main())


@pytest.mark.parametrize(
    ("retry", "renew", "duration"), [(1, 5, 5), (1, 6, 5), (3, 3, 5), (4, 3, 5)]
)
def test_times_that_would_let_two_lead_are_refused(retry, renew, duration):
    with pytest.raises(ValueError, match="must be below"):
        LeaderElection(
            retry_period_seconds=retry,
            renew_deadline_seconds=renew,
            duration_seconds=duration,
        )

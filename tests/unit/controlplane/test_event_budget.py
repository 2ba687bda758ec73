"""Events are limited for each object and in total, whatever their reasons."""

from __future__ import annotations

import pytest
from fake_cluster import pods, samples
from fake_cluster.world import World

from slipway_operator.app.metrics import Metrics
from slipway_operator.reconcile.contention import Contention
from slipway_operator.reconcile.event_budget import PER_OBJECT, EventBudget, Rate
from slipway_operator.reconcile.execute import Executor


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_an_object_may_have_so_many_at_once_and_then_one_every_while(clock: Clock):
    budget = EventBudget(Rate(3, 60), Rate(100, 1), clock)
    assert [budget.allows("a") for _ in range(5)] == [True, True, True, False, False]
    clock.now = 59
    assert not budget.allows("a")
    clock.now = 61
    assert budget.allows("a")
    assert not budget.allows("a")


def test_the_last_events_of_an_object_are_for_warnings(clock: Clock):
    budget = EventBudget(Rate(3, 60, for_warnings=1), Rate(100, 1), clock)
    assert [budget.allows("a") for _ in range(3)] == [True, True, False]
    assert budget.allows("a", warning=True)
    assert not budget.allows("a", warning=True)
    clock.now = 61
    assert not budget.allows("a")
    assert budget.allows("a", warning=True)


def test_a_noisy_object_takes_nothing_from_another(clock: Clock):
    budget = EventBudget(Rate(3, 60), Rate(5, 1), clock)
    for _ in range(50):
        budget.allows("noisy")
    assert budget.allows("calm")


def test_all_objects_together_have_a_limit_too(clock: Clock):
    budget = EventBudget(Rate(3, 60), Rate(5, 1), clock)
    assert sum(budget.allows(f"model {number}") for number in range(50)) == 5
    clock.now = 2
    assert sum(budget.allows(f"later {number}") for number in range(50)) == 2


def test_a_budget_that_was_not_used_does_not_grow(clock: Clock):
    budget = EventBudget(Rate(3, 60), Rate(100, 1), clock)
    budget.allows("a")
    clock.now = 1e6
    assert sum(budget.allows("a") for _ in range(10)) == 3


async def test_one_that_flaps_between_reasons_is_cut_off_and_the_status_is_not(world: World):
    metrics = Metrics()
    budget = EventBudget(monotonic=world._seconds)
    world.reconciler._executor = Executor(
        world.api,  # type: ignore[arg-type]
        world.store,
        Contention(300),
        lambda: world.clock,
        told=metrics.told,
        budget=budget,
    )
    world.apply(digest=samples.A)
    for turn in range(60):
        world.behaviours["a"] = (pods.fetch_ends(31), pods.fetch_ends(32))[turn % 2]
        world.advance(1)
        await world.run()
    assert len(world.events) == PER_OBJECT.burst
    assert world.condition("Ready")["reason"] == "SourceUnavailable"
    left_out = metrics.registry.get_sample_value(
        "slipway_operator_events_total", {"result": "left out"}
    )
    assert left_out
    assert left_out > 30


async def test_an_event_has_the_words_of_the_status_and_comes_on_a_transition_only(world: World):
    world.behaviours["a"] = pods.fetch_ends(31, "403 from the store")
    world.apply(digest=samples.A)
    for _ in range(5):
        world.advance(30)
        await world.run()
    told = [(event["reason"], event["message"]) for event in world.events]
    assert [reason for reason, _ in told] == ["Deploying", "AccessDenied"]
    assert told[-1][1] == world.condition("Ready")["message"]


async def test_a_failure_is_told_after_many_changes_that_went_well(world: World):
    for turn in range(2 * PER_OBJECT.burst):
        world.apply(digest=(samples.A, samples.B)[turn % 2])
        world.advance(1)
        await world.run()
    world.behaviours["c"] = pods.fetch_ends(20, "other bytes")
    world.apply(digest=samples.C)
    await world.run()
    assert [(e["type"], e["reason"]) for e in world.events][-1] == ("Warning", "RolledBack")

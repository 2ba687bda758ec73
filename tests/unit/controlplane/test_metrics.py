"""What the operator's metrics count."""

from __future__ import annotations

import pytest
from fake_cluster import pods, samples
from fake_cluster.world import World

from slipway_operator.app.metrics import Metrics
from slipway_operator.app.queue import WorkQueue
from slipway_operator.reconcile.contention import Contention
from slipway_operator.reconcile.execute import Executor


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"slipway_operator_{name}", labels)


def with_metrics(world: World, metrics: Metrics) -> World:
    executor = Executor(
        world.api,  # type: ignore[arg-type]
        world.store,
        Contention(300),
        lambda: world.clock,
        metrics.judged,
    )
    world.reconciler._executor = executor
    return world


async def test_each_rollout_is_counted_once_with_its_outcome_and_reason():
    metrics = Metrics()
    world = with_metrics(World(), metrics)
    world.apply(digest=samples.A)
    await world.run()
    world.behaviours["b"] = pods.fetch_ends(20)
    world.apply(digest=samples.B)
    await world.run()
    world.apply(replicas=3)
    await world.run()
    assert value(metrics, "rollouts_total", outcome="Good", reason="") == 1
    assert value(metrics, "rollouts_total", outcome="Failed", reason="DigestMismatch") == 1


def test_a_word_that_is_not_known_makes_no_new_series():
    metrics = Metrics()
    for number in range(50):
        metrics.failed(f"whatever the server says {number}")
        metrics.judged("Failed", f"edited by hand {number}")
    assert value(metrics, "reconcile_errors_total", error="Other") == 50
    assert value(metrics, "rollouts_total", outcome="Failed", reason="Other") == 50
    metrics.failed("Conflict")
    assert value(metrics, "reconcile_errors_total", error="Conflict") == 1


async def test_models_are_counted_by_their_conditions():
    world = World()
    world.apply(digest=samples.A)
    await world.run()
    metrics = Metrics(lambda: iter([world.status, world.status, {}]))

    def count(condition: str, status: str) -> float | None:
        return value(metrics, "models_by_condition", condition=condition, status=status)

    assert count("Ready", "True") == 2
    assert count("Ready", "Unknown") == 1, "one that nobody has looked at yet"
    assert count("Stalled", "True") == 0
    assert count("Stalled", "False") == 2
    assert count("Available", "True") == 2


@pytest.mark.parametrize(
    ("available", "reason", "outcome", "unavailable"),
    [
        ("False", "Crash", "Good", 1),
        ("True", "Serving", "Good", 0),
        ("False", "Deploying", "Pending", 0),
        ("False", "ScaledToZero", "Good", 0),
        ("False", "KindMissing", "Good", 0),
    ],
)
def test_a_model_that_served_and_answers_nothing_is_unavailable(
    available, reason, outcome, unavailable
):
    status = {
        "conditions": [
            {"type": "Ready", "status": "False", "reason": reason},
            {"type": "Available", "status": available, "reason": "x"},
        ],
        "history": [{"revision": 2, "outcome": outcome}],
    }
    metrics = Metrics(lambda: iter([status, {}]))
    assert value(metrics, "models_unavailable") == unavailable


@pytest.mark.parametrize(
    ("ready", "reason", "degraded"),
    [
        ("True", "PodsMissing", 1),
        ("True", "Unschedulable", 1),
        ("True", "Serving", 0),
        ("True", "RollbackRequested", 0),
        ("True", "ScaledToZero", 0),
        ("Unknown", "RollingOut", 0),
        ("False", "DigestMismatch", 0),
    ],
)
def test_a_model_that_serves_with_too_few_pods_is_degraded(ready, reason, degraded):
    status = {"conditions": [{"type": "Ready", "status": ready, "reason": reason}]}
    metrics = Metrics(lambda: iter([status, {}]))
    assert value(metrics, "models_degraded") == degraded


def test_every_series_that_an_alert_may_need_is_there_from_the_first_scrape():
    metrics = Metrics()
    assert value(metrics, "rollouts_total", outcome="Good", reason="") == 0
    assert value(metrics, "rollouts_total", outcome="Failed", reason="Other") == 0
    assert value(metrics, "models_by_condition", condition="Stalled", status="True") == 0


async def test_models_are_counted_by_the_reason_of_ready(world: World):
    world.behaviours["a"] = pods.fetch_ends(31)
    world.apply(digest=samples.A)
    await world.run()
    unknown = {"conditions": [{"type": "Ready", "status": "False", "reason": "EditedByHand"}]}
    metrics = Metrics(lambda: iter([world.status, unknown, {}]))

    def count(reason: str) -> float | None:
        return value(metrics, "models_by_reason", reason=reason)

    assert (count("AccessDenied"), count("Other"), count("Serving")) == (1, 1, 0)


async def test_the_time_that_a_key_waits_for_a_worker_is_measured():
    metrics = Metrics()
    queue = WorkQueue(metrics.queue_seconds.observe)
    for name in ("a", "b", "a"):
        queue.add(("payments", name))
    for _ in range(2):
        queue.done(await queue.get())
    assert value(metrics, "queue_seconds_count") == 2

"""A HorizontalPodAutoscaler that cannot read its metrics: told where the model's status is read."""

from __future__ import annotations

from typing import Any

import pytest
from fake_cluster.world import World

from slipway_operator.reconcile import kinds
from slipway_operator.reconcile.decide import timestamp

Json = dict[str, Any]

SCALING: Json = {"minReplicas": 1, "maxReplicas": 5}


async def autoscaled(reason: str | None, world: World) -> World:
    """A model that is served, whose autoscaler has just said this of its metrics."""
    world.apply(autoscaling=SCALING)
    await world.run()
    since = timestamp(world.clock)

    def say(obj: Json) -> None:
        condition = {
            "type": "ScalingActive",
            "status": "False" if reason else "True",
            "reason": reason or "ValidMetricFound",
            "message": "unable to get metrics of 10.0.0.7",
            "lastTransitionTime": since,
        }
        obj["status"] = {"conditions": [condition]}

    world.change(kinds.AUTOSCALER, say)
    await world.run()
    return world


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("FailedGetResourceMetric", "is there a metrics server"),
        ("FailedGetPodsMetric", "does an adapter serve spec.autoscaling.podMetrics"),
        ("InvalidSelector", "see kubectl describe hpa fraud -n payments"),
    ],
)
async def test_is_told_once_it_lasts(world: World, reason: str, told: str):
    await autoscaled(reason, world)
    assert reason not in world.condition("Ready")["message"]
    again = world.results[-1].requeue_after
    assert again is not None
    assert 0 < again <= 300
    world.advance(again)
    await world.run()
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("True", "Serving")
    assert "the number of pods stays as it is" in ready["message"]
    assert reason in ready["message"]
    assert told in ready["message"]
    assert "10.0.0.7" not in ready["message"]
    assert not [event for event in world.events if event["type"] == "Warning"]


@pytest.mark.parametrize("reason", [None, "ScalingDisabled"])
async def test_one_that_works_or_is_switched_off_is_not_told(world: World, reason: str | None):
    await autoscaled(reason, world)
    world.advance(3600)
    await world.run()
    assert "the number of pods stays" not in world.condition("Ready")["message"]

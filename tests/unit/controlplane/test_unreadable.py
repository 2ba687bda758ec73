"""A spec that does not fit the operator's models, as under the CRD of another version."""

from __future__ import annotations

import pytest
from fake_cluster import samples
from fake_cluster.world import World


@pytest.fixture
async def world() -> World:
    made = World()
    made.apply(digest=samples.A)
    await made.run()
    made.apply(pool=7, replicas="many", rollout={"onFailure": "Explode"})
    await made.run()
    return made


async def test_the_status_says_what_cannot_be_read_and_how_to_mend_it(world: World):
    stalled = world.condition("Stalled")
    assert stalled["reason"] == "UnreadableSpec"
    for place in ("spec.pool: ", "spec.replicas: ", "spec.rollout.onFailure: "):
        assert place in stalled["message"]
    assert "install the CustomResourceDefinition" in stalled["message"]
    assert "Explode" not in stalled["message"]
    assert world.conditions["Ready"] == "False"
    assert world.events[-1]["reason"] == "UnreadableSpec"


async def test_what_runs_goes_on(world: World):
    assert world.applied_digest == samples.A
    assert world.conditions["Available"] == "True"


async def test_the_metrics_get_a_word_out_of_few(world: World):
    assert world.results[-1].outcome == "refused"
    assert world.results[-1].requeue_after is None


async def test_it_goes_on_when_the_spec_is_mended(world: World):
    world.apply(digest=samples.B, pool="cpu", replicas=1, rollout=...)
    await world.run()
    assert world.status["serving"]["digest"] == samples.B
    assert world.conditions["Ready"] == "True"


async def test_only_the_first_mistakes_are_told():
    world = World()
    env = [{"name": 1} for _ in range(9)]
    world.apply(digest=samples.A, runtime={"env": env})
    await world.run()
    assert "; and 4 more; " in world.condition("Stalled")["message"]

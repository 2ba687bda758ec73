"""slipway.dev/rollback-to: a person wants another revision than the spec's."""

from __future__ import annotations

import pytest
from fake_cluster import pods, samples
from fake_cluster.world import World

from slipway_operator.reconcile import kinds


@pytest.fixture
async def world() -> World:
    """a, b and c were rolled out one after the other, as revisions 1, 2 and 3."""
    made = World()
    for digest in (samples.A, samples.B, samples.C):
        made.apply(digest=digest)
        await made.run()
        made.advance(5)
    return made


def serves(world: World, digest: str) -> None:
    assert world.applied_digest == digest
    assert world.status["serving"]["digest"] == digest


def withdraw(world: World) -> None:
    """The annotation is removed."""

    def change(obj: dict) -> None:
        obj["metadata"]["annotations"].pop("slipway.dev/rollback-to", None)

    world.api.update(kinds.MODEL_DEPLOYMENT, samples.NAME, samples.NAMESPACE, change)


async def ask(world: World, revision: str) -> None:
    world.annotate(**{"rollback-to": revision})
    await world.run()


async def test_the_revisions_stored_template_is_applied_and_the_status_says_so(world: World):
    (stored,) = (r["data"]["template"] for r in world.revisions if r["revision"] == 1)
    await ask(world, "1")
    assert world.deployment["spec"]["template"] == stored
    serves(world, samples.A)
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("True", "RollbackRequested")
    assert "revision 1 instead of 3 (cccccccccccc)" in ready["message"]
    assert world.status["requestedRollback"] == {
        "revision": 1,
        "insteadOf": 3,
        "digest": samples.C,
    }
    assert world.status["target"]["revision"] == 1
    assert "outdated" not in world.status
    assert world.events[-1]["reason"] == "RollbackRequested"


async def test_it_is_not_called_done_before_it_is(world: World):
    world.annotate(**{"rollback-to": "1"})
    await world.reconcile()
    await world.reconcile()
    assert world.condition("Ready")["status"] == "Unknown"
    assert world.condition("Reconciling")["reason"] == "RollingOut"


async def test_it_holds_and_writes_no_more(world: World):
    await ask(world, "1")
    writes = len(world.api.writes)
    world.restart()
    await world.run()
    world.advance(3600)
    await world.run()
    assert len(world.api.writes) == writes
    serves(world, samples.A)


async def test_it_outlives_the_status(world: World):
    await ask(world, "1")
    before = world.status
    world.api.update(
        kinds.MODEL_DEPLOYMENT, samples.NAME, samples.NAMESPACE, lambda obj: obj.pop("status")
    )
    await world.run()
    assert world.status["requestedRollback"] == before["requestedRollback"]
    serves(world, samples.A)


async def test_it_ends_when_the_annotation_is_removed(world: World):
    await ask(world, "1")
    withdraw(world)
    await world.run()
    serves(world, samples.C)
    assert world.condition("Ready")["reason"] == "Serving"
    assert "requestedRollback" not in world.status
    # Asked again, it is met again.
    await ask(world, "1")
    serves(world, samples.A)


async def test_it_ends_when_the_spec_changes_though_the_annotation_stays(world: World):
    await ask(world, "1")
    world.apply(digest=samples.D)
    await world.run()
    serves(world, samples.D)
    assert world.condition("Ready")["reason"] == "Serving"
    world.restart()
    await world.run()
    serves(world, samples.D)
    # Also when the new spec is one that was asked for before.
    world.apply(digest=samples.B)
    await world.run()
    serves(world, samples.B)
    # Another value is a new request.
    numbers = {r["data"]["digest"]: r["revision"] for r in world.revisions}
    await ask(world, str(numbers[samples.D]))
    serves(world, samples.D)


async def test_it_can_be_asked_for_together_with_a_new_spec_that_it_was_not_made_for(world: World):
    world.apply(digest=samples.D)
    await ask(world, "2")
    serves(world, samples.B)
    assert world.status["requestedRollback"]["digest"] == samples.D


async def test_another_number_is_another_request(world: World):
    await ask(world, "1")
    await ask(world, "2")
    serves(world, samples.B)
    assert world.status["requestedRollback"]["revision"] == 2


async def test_scaling_does_not_end_it(world: World):
    await ask(world, "1")
    world.apply(replicas=3)
    await world.run()
    serves(world, samples.A)
    assert world.status["readyReplicas"] == 3


async def test_the_number_of_the_specs_own_revision_changes_nothing(world: World):
    await ask(world, "3")
    serves(world, samples.C)
    assert world.condition("Ready")["reason"] == "Serving"
    assert "requestedRollback" not in world.status


@pytest.mark.parametrize("asked", ["9", "first", "-1", "1.0"])
async def test_a_revision_that_is_not_there_is_refused_with_those_that_are(
    world: World, asked: str
):
    await ask(world, asked)
    stalled = world.condition("Stalled")
    assert stalled["reason"] == "UnknownRevision"
    assert f"'{asked}'" in stalled["message"]
    assert "(1, 2, 3)" in stalled["message"]
    serves_still = world.applied_digest
    assert serves_still == samples.C
    withdraw(world)
    await world.run()
    assert world.conditions["Ready"] == "True"


async def test_of_a_long_annotation_only_the_beginning_is_told(world: World):
    await ask(world, "9" * 30_000)
    assert len(world.condition("Stalled")["message"]) < 500


async def test_a_revision_that_never_was_rolled_out_is_refused(world: World):
    world.behaviours["d"] = pods.fetch_ends(20)
    world.apply(digest=samples.D)
    await world.run()
    await ask(world, "4")
    assert "requestedRollback" not in world.status
    world.apply(digest=samples.A)
    await world.run()
    withdraw(world)
    await ask(world, "4")
    assert world.condition("Stalled")["reason"] == "UnknownRevision"


async def test_after_a_failed_rollout_an_older_one_than_the_last_good_can_be_chosen(world: World):
    world.behaviours["d"] = pods.fetch_ends(20)
    world.apply(digest=samples.D)
    await world.run()
    serves(world, samples.C)
    await ask(world, "1")
    serves(world, samples.A)
    assert world.condition("Ready")["reason"] == "RollbackRequested"
    assert world.status["lastFailure"]["digest"] == samples.D
    # Without the request the verdict stands: the failed revision is not tried again, and what was
    # rolled out last stays.
    withdraw(world)
    templates = len(world.templates)
    await world.run()
    serves(world, samples.A)
    assert samples.D not in world.templates[templates:]
    assert world.condition("Stalled")["reason"] == "RolledBack"


async def test_a_failure_after_it_returns_to_what_was_asked_for_not_to_what_was_fled(world: World):
    await ask(world, "1")
    world.behaviours["d"] = pods.fetch_ends(20)
    world.apply(digest=samples.D)
    await world.run()
    serves(world, samples.A)
    assert world.condition("Stalled")["reason"] == "RolledBack"


async def test_when_it_fails_itself_the_last_good_one_is_kept(world: World):
    world.behaviours["a"] = pods.fetch_ends(20)
    await ask(world, "1")
    assert world.applied_digest == samples.B
    assert world.condition("Stalled")["reason"] == "RolledBack"
    assert "revision 1 instead of 3" in world.condition("Ready")["message"]


async def test_neither_what_is_asked_for_nor_the_specs_own_is_ever_pruned():
    world = World(samples.settings(revisionHistoryLimit=2))
    for digest in (samples.A, samples.B):
        world.apply(digest=digest)
        await world.run()
    await ask(world, "1")
    world.restart()
    await world.run()
    assert [r["revision"] for r in world.revisions] == [1, 2]
    withdraw(world)
    await world.run()
    serves(world, samples.B)


@pytest.mark.parametrize("lost", range(12))
@pytest.mark.parametrize("answered", [True, False], ids=["answer lost", "refused"])
async def test_an_operator_that_dies_at_any_write_finds_its_way(
    world: World, lost: int, answered: bool
):
    class DiedError(Exception):
        pass

    start = len(world.api.writes)

    def die(write: object) -> None:
        if write.index == start + lost:  # type: ignore[attr-defined]
            raise DiedError

    if answered:
        world.api.after = die
    else:
        world.api.before = die
    world.annotate(**{"rollback-to": "1"})
    try:
        await world.run()
    except DiedError:
        world.api.after = world.api.before = lambda _: None
        world.restart()
        await world.run()
    serves(world, samples.A)
    assert world.condition("Ready")["reason"] == "RollbackRequested"
    goods = {r["data"]["digest"]: r for r in world.revisions}
    assert goods[samples.A]["metadata"]["annotations"]["slipway.dev/outcome"] == "Good"

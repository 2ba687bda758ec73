"""Somebody else keeps changing a field of a child back: given way to, told, tried again."""

from __future__ import annotations

from collections import Counter

import pytest
from fake_cluster import pods, samples
from fake_cluster.world import World

from slipway_operator.reconcile import kinds
from slipway_operator.reconcile.difference import manager_of

FIELD = "minReadySeconds"
BACKOFF = 300.0


def sets(world: World, manager: str = "gitops", value: int = 7) -> None:
    """Another field manager writes the field."""

    def change(obj: dict) -> None:
        obj["spec"][FIELD] = value
        entries = [e for e in obj["metadata"]["managedFields"] if e["manager"] != manager]
        for other in entries:
            # Whoever changes a value takes the field over with it.
            other["fieldsV1"].get("f:spec", {}).pop(f"f:{FIELD}", None)
        entry = {
            "manager": manager,
            "operation": "Update",
            "time": world.api.now(),
            "fieldsV1": {"f:spec": {f"f:{FIELD}": {}}},
        }
        obj["metadata"]["managedFields"] = [*entries, entry]

    world.change(kinds.DEPLOYMENT, change)


def applied(world: World) -> int:
    return sum(w.verb == "apply" and w.kind == "Deployment" for w in world.api.writes)


async def fights(world: World, rounds: int, manager: str = "gitops", every: float = 1.0) -> None:
    for _ in range(rounds):
        sets(world, manager)
        world.advance(every)
        await world.run()


@pytest.fixture
async def world() -> World:
    made = World(samples.settings(conflictBackoffSeconds=BACKOFF))
    made.apply(digest=samples.A)
    await made.run()
    return made


def good(world: World) -> set[str]:
    """Digests of the revisions that the operator would return to."""
    return {
        revision["data"]["digest"]
        for revision in world.revisions
        if "slipway.dev/good-as" in revision["metadata"]["annotations"]
    }


async def test_three_times_are_put_back_and_the_fourth_is_left_and_told(world: World):
    await fights(world, 3)
    assert world.deployment["spec"][FIELD] == 0
    assert world.conditions["Ready"] == "True"
    before = applied(world)
    await fights(world, 1)
    assert world.deployment["spec"][FIELD] == 7
    assert applied(world) == before
    stalled = world.condition("Stalled")
    assert stalled["reason"] == "FieldConflict"
    assert (
        "'gitops' keeps changing spec.minReadySeconds of the Deployment 'fraud'"
        in (stalled["message"])
    )
    assert world.conditions["Available"] == "True"
    assert world.events[-1]["reason"] == "FieldConflict"
    assert "gitops" in world.events[-1]["message"]


async def test_while_it_is_left_alone_nothing_is_written(world: World):
    await fights(world, 4)
    writes = len(world.api.writes)
    for _ in range(5):
        world.advance(BACKOFF / 10)
        result = await world.reconcile()
        assert result.requeue_after is not None
        assert 0 < result.requeue_after <= BACKOFF
    assert len(world.api.writes) == writes


async def test_it_heals_when_the_other_has_stopped(world: World):
    await fights(world, 4)
    world.advance(BACKOFF + 1)
    await world.run()
    assert world.deployment["spec"][FIELD] == 0
    # Not at once: only when it stays so.
    assert world.condition("Stalled")["reason"] == "FieldConflict"
    world.advance(31)
    await world.run()
    assert world.conditions["Ready"] == "True"
    assert "Stalled" not in world.conditions


async def test_it_heals_when_the_other_gives_in(world: World):
    await fights(world, 4)
    sets(world, value=0)
    await world.run()
    world.advance(31)
    await world.run()
    assert world.conditions["Ready"] == "True"


async def test_who_goes_on_is_given_way_to_after_each_single_try(world: World):
    await fights(world, 4)
    before = applied(world)
    for _ in range(5):
        world.advance(BACKOFF + 1)
        await world.run()
        await fights(world, 3)
        assert world.condition("Stalled")["reason"] == "FieldConflict"
    assert applied(world) == before + 5
    told = Counter(event["reason"] for event in world.events)
    assert told["FieldConflict"] == 1


async def test_changes_that_are_rare_are_put_back_for_ever(world: World):
    await fights(world, 8, every=BACKOFF / 2)
    assert world.deployment["spec"][FIELD] == 0
    assert world.conditions["Ready"] == "True"


async def test_another_manager_is_counted_by_itself(world: World):
    for manager in ("one", "two", "three", "four"):
        await fights(world, 1, manager)
        world.change(
            kinds.DEPLOYMENT,
            lambda obj, manager=manager: obj["metadata"].update(
                managedFields=[
                    e for e in obj["metadata"]["managedFields"] if e["manager"] != manager
                ]
            ),
        )
    assert world.deployment["spec"][FIELD] == 0


async def test_a_new_version_is_rolled_out_in_the_middle_of_it(world: World):
    await fights(world, 4)
    world.apply(digest=samples.B)
    await world.run()
    assert world.applied_digest == samples.B
    assert world.status["serving"]["digest"] == samples.B


async def test_many_versions_in_a_short_while_are_nobodys_fight(world: World):
    def scaled(obj: dict) -> None:
        entry = {
            "manager": "kube-controller-manager",
            "operation": "Update",
            "subresource": "scale",
            "time": world.api.now(),
            "fieldsV1": {"f:spec": {"f:replicas": {}}},
        }
        obj["metadata"]["managedFields"].append(entry)

    world.change(kinds.DEPLOYMENT, scaled)
    for digit in "bcdef":
        world.apply(digest="sha256:" + digit * 64)
        world.advance(40)
        await world.run()
        annotations = world.deployment["spec"]["template"]["metadata"]["annotations"]
        assert annotations["slipway.dev/digest"] == "sha256:" + digit * 64
        assert world.condition("Ready")["reason"] != "FieldConflict"


async def test_a_verdict_is_recorded_and_the_other_children_are_healed(world: World):
    await fights(world, 4)
    world.change(kinds.SERVICE, lambda obj: obj["spec"]["ports"][0].update(port=81))
    await world.run()
    service = world.own(kinds.SERVICE)
    assert service is not None
    assert service["spec"]["ports"][0]["port"] == 80
    assert world.condition("Stalled")["reason"] == "FieldConflict"
    world.behaviours["b"] = pods.fetch_ends(20)
    world.apply(digest=samples.B)
    await world.run()
    assert world.status["lastFailure"]["reason"] == "DigestMismatch"
    assert world.applied_digest == samples.A


async def test_a_version_whose_pods_are_of_somebody_elses_making_is_not_called_good(world: World):
    def other_image(obj: dict) -> None:
        obj["spec"]["template"]["spec"]["containers"][0]["image"] = "other"
        for entry in obj["metadata"]["managedFields"]:
            entry["fieldsV1"] = {}
        entry = {"manager": "kubectl-set", "operation": "Update", "time": world.api.now()}
        obj["metadata"]["managedFields"].append({**entry, "fieldsV1": {"f:spec": {}}})

    world.behaviours["b"] = pods.loading
    world.apply(digest=samples.B)
    await world.run()
    for _ in range(4):
        world.change(kinds.DEPLOYMENT, other_image)
        world.advance(1)
        await world.run()
    assert world.condition("Stalled")["reason"] == "FieldConflict"
    world.behaviours["b"] = pods.ready
    world.controllers()
    await world.run()
    assert world.applied_digest == samples.B
    assert good(world) == {samples.A}
    world.advance(BACKOFF + 1)
    await world.run()
    assert good(world) == {samples.A, samples.B}


async def test_a_restarted_operator_counts_anew(world: World):
    await fights(world, 4)
    world.restart()
    await world.run()
    assert world.deployment["spec"][FIELD] == 0


class TestWhoSetAField:
    def managed(self, *entries: tuple[str, str, dict]) -> dict:
        return {
            "metadata": {
                "managedFields": [
                    {"manager": manager, "operation": "Update", "time": time, "fieldsV1": fields}
                    for manager, time, fields in entries
                ]
            }
        }

    def test_is_its_owner(self):
        live = self.managed(
            ("late", "2026-01-02T00:00:00Z", {"f:spec": {"f:replicas": {}}}),
            ("owner", "2026-01-01T00:00:00Z", {"f:spec": {"f:paused": {}}}),
        )
        assert manager_of(live, ("spec", "paused")) == "owner"

    def test_is_the_owner_of_the_whole_list_or_map(self):
        live = self.managed(("owner", "", {"f:spec": {"f:nodeSelector": {}}}), ("x", "1", {}))
        assert manager_of(live, ("spec", "nodeSelector", "zone")) == "owner"

    def test_is_found_in_a_list_of_named_items(self):
        fields = {"f:spec": {"f:containers": {'k:{"name":"serve"}': {"f:image": {}}}}}
        live = self.managed(("owner", "", fields), ("x", "1", {}))
        assert manager_of(live, ("spec", "containers", "[serve]", "image")) == "owner"

    def test_is_the_last_to_write_when_the_field_was_removed(self):
        live = self.managed(("a", "2026-01-01T00:00:00Z", {}), ("b", "2026-01-02T00:00:00Z", {}))
        assert manager_of(live, ("metadata", "labels", "x")) == "b"

    def test_is_nobody_when_only_the_operator_wrote(self):
        assert manager_of(self.managed(("slipway-operator", "", {})), ("spec", "paused")) is None

"""The conditions: one row for each situation, rendered alone and reached through decide()."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from fake_cluster import pods, samples
from fake_cluster.world import World

from slipway_operator.api.conditions import Situation, Verdict, conditions
from slipway_operator.reconcile import kinds
from slipway_operator.reconcile.kube import ApiError

Row = tuple[str, str | None, str | None, str]
"""Ready, Reconciling, Stalled, Available; None where the condition must be absent."""

Story = Callable[[World], "object"]


def shown(found: list[dict[str, str]]) -> Row:
    by_type = {c["type"]: c["status"] for c in found}
    return (
        by_type["Ready"],
        by_type.get("Reconciling"),
        by_type.get("Stalled"),
        by_type["Available"],
    )


def verdict(situation: Situation, *, available: bool) -> Verdict:
    return Verdict(situation, "Why", "what", available, ("Unknown", "NotFetched", "not yet"))


@pytest.mark.parametrize(
    ("situation", "available", "row"),
    [
        pytest.param(
            Situation.PROGRESSING, False, ("False", "True", None, "False"), id="first rollout"
        ),
        pytest.param(
            Situation.PROGRESSING, True, ("Unknown", "True", None, "True"), id="the old serves on"
        ),
        pytest.param(
            Situation.FAILED, True, ("False", None, "True", "True"), id="failed, something answers"
        ),
        pytest.param(
            Situation.FAILED, False, ("False", None, "True", "False"), id="failed, nothing answers"
        ),
        pytest.param(Situation.COMPLETE, True, ("True", None, None, "True"), id="complete"),
        pytest.param(
            Situation.COMPLETE, False, ("False", "True", None, "False"), id="complete, none left"
        ),
        pytest.param(
            Situation.SCALED_TO_ZERO, False, ("True", None, None, "False"), id="scaled to zero"
        ),
    ],
)
def test_each_situation_is_one_row_of_the_table(situation, available, row):
    found = conditions(verdict(situation, available=available), 7, [], "2026-11-21T12:00:00Z")
    assert shown(found) == row
    assert {c["observedGeneration"] for c in found} == {7}


@pytest.mark.parametrize("situation", Situation)
@pytest.mark.parametrize("available", [True, False])
def test_reconciling_and_stalled_are_never_both_there(situation, available):
    types = {c["type"] for c in conditions(verdict(situation, available=available), 1, [], "now")}
    assert not {"Reconciling", "Stalled"} <= types


def test_the_transition_time_moves_only_with_the_status():
    before = conditions(verdict(Situation.PROGRESSING, available=False), 1, [], "early")
    after = conditions(verdict(Situation.PROGRESSING, available=True), 2, before, "late")
    times = {c["type"]: c["lastTransitionTime"] for c in after}
    assert times == {
        "Ready": "late",
        "Available": "late",
        "Reconciling": "early",
        "ArtifactVerified": "early",
    }


async def first_rollout(world: World) -> None:
    world.behaviours["a"] = pods.loading
    world.apply(digest=samples.A)


async def serving_a(world: World, **changes: object) -> None:
    world.apply(digest=samples.A, **changes)
    await world.run()


async def rolling_while_the_old_serves(world: World) -> None:
    await serving_a(world)
    world.behaviours["b"] = pods.loading
    world.apply(digest=samples.B)


async def rolled_back(world: World) -> None:
    await serving_a(world)
    world.behaviours["b"] = pods.fetch_ends(20)
    world.apply(digest=samples.B)


async def held_while_the_old_serves(world: World) -> None:
    await serving_a(world, rollout={"onFailure": "Hold"})
    world.behaviours["b"] = pods.fetch_ends(20)
    world.apply(digest=samples.B)


async def held_with_nothing_that_serves(world: World) -> None:
    world.behaviours["a"] = pods.fetch_ends(20)
    world.apply(digest=samples.A)


async def one_of_two_lost(world: World) -> None:
    await serving_a(world, replicas=2)
    world.change(
        kinds.DEPLOYMENT,
        lambda d: d["status"].update(readyReplicas=1, availableReplicas=1),
    )
    world.controllers = lambda: None  # type: ignore[method-assign]


async def all_lost(world: World) -> None:
    await serving_a(world)
    world.behaviours["a"] = pods.serve_ends(137)


async def scaled_to_zero(world: World) -> None:
    await serving_a(world)
    world.apply(replicas=0)


async def unknown_pool(world: World) -> None:
    world.apply(digest=samples.A, pool="tpu")


async def unknown_pool_later(world: World) -> None:
    await serving_a(world)
    world.apply(pool="tpu")


async def no_surge_and_none_unavailable(world: World) -> None:
    world.apply(digest=samples.A, rollout={"maxSurge": "0%", "maxUnavailable": 0})


async def deadline_too_short(world: World) -> None:
    world.apply(digest=samples.A, rollout={"progressDeadlineSeconds": 30, "minReadySeconds": 30})


async def foreign_service(world: World) -> None:
    world.api.add(
        kinds.SERVICE, {"metadata": {"name": samples.NAME, "namespace": samples.NAMESPACE}}
    )
    world.apply(digest=samples.A)


async def namesake_still_there(world: World) -> None:
    owner = {"kind": "ModelDeployment", "name": samples.NAME, "uid": "old", "controller": True}
    metadata = {
        "name": samples.NAME,
        "namespace": samples.NAMESPACE,
        "ownerReferences": [owner],
    }
    world.api.add(kinds.SERVICE, {"metadata": metadata})
    world.apply(digest=samples.A)


def refuse(world: World, status: int, message: str) -> None:
    def before(write: object) -> None:
        if (write.verb, write.kind) == ("create", "Deployment"):  # type: ignore[attr-defined]
            raise ApiError(status, "x", message)

    world.api.before = before


async def rejected(world: World) -> None:
    refuse(world, 422, "spec.template.spec.tolerations[0].operator: Unsupported value")
    world.apply(digest=samples.A)


async def webhook_down(world: World) -> None:
    refuse(world, 500, "failed calling webhook: read tcp 10.0.0.1:40123->10.0.0.2:443: reset")
    world.apply(digest=samples.A)


@pytest.mark.parametrize(
    ("story", "row", "reason"),
    [
        (first_rollout, ("False", "True", None, "False"), "Deploying"),
        (serving_a, ("True", None, None, "True"), "Serving"),
        (rolling_while_the_old_serves, ("Unknown", "True", None, "True"), "RollingOut"),
        (rolled_back, ("False", None, "True", "True"), "DigestMismatch"),
        (held_while_the_old_serves, ("False", None, "True", "True"), "DigestMismatch"),
        (held_with_nothing_that_serves, ("False", None, "True", "False"), "DigestMismatch"),
        (one_of_two_lost, ("True", None, None, "True"), "PodsMissing"),
        (all_lost, ("False", "True", None, "False"), "Crash"),
        (scaled_to_zero, ("True", None, None, "False"), "ScaledToZero"),
        (unknown_pool, ("False", None, "True", "False"), "UnknownPool"),
        (unknown_pool_later, ("False", None, "True", "True"), "UnknownPool"),
        (no_surge_and_none_unavailable, ("False", None, "True", "False"), "InvalidRollout"),
        (deadline_too_short, ("False", None, "True", "False"), "InvalidRollout"),
        (foreign_service, ("False", None, "True", "True"), "NameConflict"),
        (namesake_still_there, ("Unknown", "True", None, "True"), "WaitingForDeletion"),
        (rejected, ("False", None, "True", "False"), "ApplyRejected"),
        (webhook_down, ("False", "True", None, "False"), "ApplyFailed"),
    ],
    ids=lambda value: value.__name__.replace("_", " ") if callable(value) else "",
)
async def test_each_story_ends_in_its_row(world, story, row, reason):
    await story(world)
    await world.run()
    status = world.status
    assert shown(status["conditions"]) == row
    assert world.condition("Ready")["reason"] == reason
    model = world.own(kinds.MODEL_DEPLOYMENT)
    assert status["observedGeneration"] == model["metadata"]["generation"]
    for condition in status["conditions"]:
        assert condition["observedGeneration"] == model["metadata"]["generation"]


SUSPENDED = "spec.suspend is true: nothing is done until it is false"


@pytest.mark.parametrize("story", [serving_a, rolled_back, rolling_while_the_old_serves])
async def test_suspended_keeps_its_last_conditions(world, story):
    await story(world)
    await world.run()
    before = shown(world.status["conditions"])
    said = world.condition("Ready")["message"]
    count = len(world.api.writes)
    world.apply(suspend=True, digest=samples.D)
    world.change(kinds.DEPLOYMENT, lambda d: d["spec"].update(paused=True))
    await world.run()
    assert shown(world.status["conditions"]) == before
    assert world.condition("Ready")["message"] == f"{SUSPENDED}; last: {said}"
    assert {c["observedGeneration"] for c in world.status["conditions"]} == {
        world.status["observedGeneration"]
    }
    assert {w.verb for w in world.api.writes[count:]} == {"apply/status"}
    count = len(world.api.writes)
    await world.run()
    assert not world.api.writes[count:]


@pytest.mark.parametrize("change", [{"suspend": True}, {"pool": "nowhere"}])
async def test_a_deployment_whose_labels_were_taken_away_still_counts(world, change):
    await serving_a(world)
    await world.run()
    world.apply(**change)
    world.change(kinds.DEPLOYMENT, lambda d: d["metadata"]["labels"].clear())
    await world.run()
    assert (world.status["replicas"], world.status["readyReplicas"]) == (1, 1)


async def test_suspended_from_the_start_is_not_taken_for_ready(world):
    world.apply(digest=samples.A, suspend=True)
    await world.run()
    assert world.conditions == {"Ready": "Unknown"}
    assert [w.verb for w in world.api.writes] == ["apply/status"]


async def test_what_cannot_be_used_lists_what_can(world):
    await unknown_pool(world)
    await world.run()
    assert "use one of cpu, gpu" in world.condition("Stalled")["message"]


async def test_a_rollout_that_leaves_a_gap_says_so_first(world):
    world.apply(digest=samples.A, pool="gpu")
    await world.run()
    world.apply(digest=samples.B)
    await world.reconcile()
    assert world.condition("Ready")["reason"] == "RolloutWithGap"


async def test_a_webhook_that_comes_back_is_noticed_by_itself(world):
    await webhook_down(world)
    await world.run()
    assert world.results[-1].requeue_after == 5.0
    assert "10.0.0.1->10.0.0.2" in world.condition("Ready")["message"]
    world.api.before = lambda _: None
    world.clock += timedelta(seconds=5)
    await world.run()
    assert world.conditions["Ready"] == "True"


async def test_what_is_said_to_serve_agrees_with_the_conditions(world):
    """The count of the old ReplicaSet may arrive after that of the Deployment."""
    await serving_a(world)
    old = world.api.of_kind(kinds.REPLICA_SET)[0]["metadata"]["name"]
    world.apply(digest=samples.B)
    await world.run()

    def late(replica_set: dict[str, object]) -> None:
        replica_set["status"] = {"replicas": 1, "readyReplicas": 1}

    world.api.update(kinds.REPLICA_SET, old, samples.NAMESPACE, late)
    await world.reconcile()
    assert world.condition("Ready")["reason"] == "Serving"
    assert world.status["serving"]["digest"] == samples.B


async def test_while_two_revisions_answer_the_one_that_leaves_is_named(world):
    await serving_a(world)
    world.behaviours["b"] = pods.ready
    world.apply(digest=samples.B)
    await world.reconcile()
    assert world.status["serving"]["digest"] == samples.A
    assert world.status["target"]["digest"] == samples.B

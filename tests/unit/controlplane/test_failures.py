"""When a rollout has failed, what is applied then, and what the status says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from fake_cluster import pods, samples
from fake_cluster.api import Write
from fake_cluster.world import World

from slipway_operator.api.reasons import CLASS_OF, FailureClass, Reason
from slipway_operator.reconcile import kinds
from slipway_operator.reconcile.decide import decide
from slipway_operator.reconcile.kube import ApiError

ENOUGH = 3
"""Restarts after which an ambiguous failure is one, as the settings say by default."""

INTRINSIC = {
    Reason.DIGEST_MISMATCH: pods.fetch_ends(20),
    Reason.TOO_LARGE: pods.fetch_ends(24),
    Reason.INVALID_MODEL: pods.serve_ends(21),
    Reason.UNSUPPORTED_OPSET: pods.serve_ends(22),
    Reason.GOLDEN_MISMATCH: pods.serve_ends(23),
    Reason.WARMUP_FAILED: pods.serve_ends(25),
}
ENVIRONMENTAL = {
    Reason.INVALID_ARGUMENTS: pods.fetch_ends(2),
    Reason.ARTIFACT_NOT_FOUND: pods.fetch_ends(30),
    Reason.ACCESS_DENIED: pods.fetch_ends(31),
    Reason.SOURCE_UNAVAILABLE: pods.fetch_ends(32, restarts=9),
    Reason.IMAGE_PULL: pods.waits("ImagePullBackOff", "Back-off pulling image"),
    Reason.CONTAINER_CONFIG: pods.waits("CreateContainerConfigError", 'secret "x" not found'),
    Reason.UNSCHEDULABLE: pods.unschedulable,
}
AMBIGUOUS = {
    Reason.OUT_OF_MEMORY: (pods.serve_ends, 137, {"reason": "OOMKilled"}),
    Reason.PROVIDER_UNAVAILABLE: (pods.serve_ends, 40, {}),
    Reason.CRASH: (pods.serve_ends, 139, {}),
}


def ids(reason: object) -> str:
    return str(reason)


async def serving_a(world: World, **changes: object) -> None:
    world.apply(digest=samples.A, **changes)
    await world.run()


async def asked_for_b(world: World, behaviour: pods.Behaviour, **changes: object) -> None:
    world.behaviours["b"] = behaviour
    world.apply(digest=samples.B, **changes)
    await world.run()


def denies(kind: str) -> Callable[[Write], None]:
    """An admission webhook that lets no object of a kind be deleted."""

    def before(write: Write) -> None:
        if (write.verb, write.kind) == ("delete", kind):
            raise ApiError(403, "Forbidden", "admission webhook denied the request")

    return before


def named(world: World, reason: Reason) -> None:
    """The reason is told, and nothing was decided by it."""
    assert world.condition("Ready")["reason"] == reason
    assert "Stalled" not in world.conditions
    assert world.applied_digest == world.status["target"]["digest"]
    assert "lastFailure" not in world.status


def rolled_back_to_a(world: World, reason: Reason) -> None:
    assert world.condition("Stalled")["reason"] == "RolledBack"
    assert world.condition("Ready")["reason"] == reason
    assert world.applied_digest == samples.A
    assert world.status["serving"]["digest"] == samples.A
    assert world.status["target"]["digest"] == samples.B
    assert world.status["lastFailure"]["reason"] == reason
    assert world.status["lastFailure"]["digest"] == samples.B
    assert [h["outcome"] for h in world.status["history"]] == ["Failed", "Good"]


def held_with_b(world: World, reason: Reason) -> None:
    assert world.condition("Stalled")["reason"] == "RolloutHeld"
    assert world.condition("Ready")["reason"] == reason
    assert world.applied_digest == samples.B
    assert world.status["lastFailure"]["reason"] == reason


def test_the_tables_here_know_every_reason_that_pods_can_give():
    unseen = set(Reason) - set(INTRINSIC) - set(ENVIRONMENTAL) - set(AMBIGUOUS)
    assert unseen == {
        Reason.PROGRESS_DEADLINE,
        Reason.POD_CREATION_DENIED,
        Reason.EVICTED,
        # These two are in test_pod_events.py.
        Reason.NODE_LOST,
        Reason.VOLUME_MOUNT,
    }
    for table, failure_class in (
        (INTRINSIC, FailureClass.INTRINSIC),
        (ENVIRONMENTAL, FailureClass.ENVIRONMENTAL),
        (AMBIGUOUS, FailureClass.AMBIGUOUS),
    ):
        assert {CLASS_OF[reason] for reason in table} == {failure_class}


@pytest.mark.parametrize("reason", INTRINSIC, ids=ids)
class TestIntrinsicFailuresAreVerdictsAtTheFirstEvidence:
    async def test_a_first_rollout_is_held(self, world, reason):
        world.behaviours["a"] = INTRINSIC[reason]
        world.apply(digest=samples.A)
        await world.run()
        assert world.condition("Stalled")["reason"] == "RolloutHeld"
        assert world.condition("Ready")["reason"] == reason
        assert world.applied_digest == samples.A

    async def test_a_held_one_says_whether_it_can_heal(self, world, reason):
        world.behaviours["a"] = INTRINSIC[reason]
        await serving_a(world)
        may_heal = reason in (Reason.DIGEST_MISMATCH, Reason.TOO_LARGE)
        promised = "goes on by itself" in world.condition("Ready")["message"]
        assert promised is may_heal

    async def test_a_later_rollout_goes_back(self, world, reason):
        await serving_a(world)
        await asked_for_b(world, INTRINSIC[reason])
        rolled_back_to_a(world, reason)

    async def test_a_later_rollout_is_held_where_that_was_asked_for(self, world, reason):
        await serving_a(world, rollout={"onFailure": "Hold"})
        await asked_for_b(world, INTRINSIC[reason])
        held_with_b(world, reason)
        assert world.status["serving"]["digest"] == samples.A


@pytest.mark.parametrize("reason", ENVIRONMENTAL, ids=ids)
class TestEnvironmentalFailuresAreNamedAtOnceAndFailAtTheDeadline:
    async def test_a_first_rollout_is_held_then(self, world, reason):
        world.behaviours["a"] = ENVIRONMENTAL[reason]
        world.apply(digest=samples.A)
        await world.run()
        named(world, reason)
        world.pass_deadline()
        await world.run()
        assert world.condition("Stalled")["reason"] == "RolloutHeld"
        assert world.condition("Ready")["reason"] == reason

    async def test_a_later_rollout_goes_back_then(self, world, reason):
        await serving_a(world)
        await asked_for_b(world, ENVIRONMENTAL[reason])
        named(world, reason)
        world.pass_deadline()
        await world.run()
        rolled_back_to_a(world, reason)

    async def test_a_later_rollout_is_held_where_that_was_asked_for(self, world, reason):
        await serving_a(world, rollout={"onFailure": "Hold"})
        await asked_for_b(world, ENVIRONMENTAL[reason])
        named(world, reason)
        world.pass_deadline()
        await world.run()
        held_with_b(world, reason)

    async def test_it_goes_on_by_itself_once_the_cause_is_gone(self, world, reason):
        world.behaviours["a"] = ENVIRONMENTAL[reason]
        world.apply(digest=samples.A)
        await world.run()
        world.pass_deadline()
        await world.run()
        world.behaviours["a"] = pods.ready
        await world.run()
        assert world.conditions["Ready"] == "True"
        assert "lastFailure" not in world.status


@pytest.mark.parametrize("reason", AMBIGUOUS, ids=ids)
class TestAmbiguousFailuresAreVerdictsAfterSomeRestarts:
    @staticmethod
    def after(reason: Reason, restarts: int) -> pods.Behaviour:
        end, code, more = AMBIGUOUS[reason]
        return end(code, restarts=restarts, **more)

    async def test_before_that_they_are_named(self, world, reason):
        await serving_a(world)
        await asked_for_b(world, self.after(reason, ENOUGH - 1))
        named(world, reason)

    async def test_then_a_later_rollout_goes_back(self, world, reason):
        await serving_a(world)
        await asked_for_b(world, self.after(reason, ENOUGH))
        rolled_back_to_a(world, reason)

    async def test_then_a_later_rollout_is_held_where_that_was_asked_for(self, world, reason):
        await serving_a(world, rollout={"onFailure": "Hold"})
        await asked_for_b(world, self.after(reason, ENOUGH))
        held_with_b(world, reason)

    async def test_then_a_first_rollout_is_held(self, world, reason):
        world.behaviours["a"] = self.after(reason, ENOUGH)
        world.apply(digest=samples.A)
        await world.run()
        assert world.condition("Stalled")["reason"] == "RolloutHeld"

    async def test_before_that_the_deadline_ends_it(self, world, reason):
        await serving_a(world)
        await asked_for_b(world, self.after(reason, 0))
        world.pass_deadline()
        await world.run()
        rolled_back_to_a(world, reason)


async def test_pods_that_are_evicted_again_and_again_are_a_failure(world):
    await serving_a(world, replicas=ENOUGH)
    await asked_for_b(world, pods.evicted)
    rolled_back_to_a(world, Reason.EVICTED)


@pytest.mark.parametrize(
    ("told", "reason"),
    [("UnexpectedAdmissionError", "Unschedulable"), ("Terminated", "NodeLost")],
)
async def test_pods_that_their_node_gives_up_however_many_are_no_verdict(world, told, reason):
    await serving_a(world, replicas=ENOUGH)
    await asked_for_b(world, lambda now: {**pods.evicted(now), "reason": told})
    named(world, reason)
    assert world.applied_digest == samples.B


async def test_a_rollout_with_nothing_to_say_fails_at_the_deadline(world):
    await serving_a(world)
    await asked_for_b(world, pods.loading)
    assert world.condition("Ready")["reason"] == "RollingOut"
    world.pass_deadline()
    await world.run()
    rolled_back_to_a(world, Reason.PROGRESS_DEADLINE)


async def test_pods_that_must_not_be_created_are_told_with_the_words_of_the_quota(world):
    await serving_a(world)
    world.behaviours["b"] = pods.loading
    world.apply(digest=samples.B)
    await world.reconcile()
    world.controllers()

    def denied(replica_set: dict[str, object]) -> None:
        replica_set["status"] = {
            "replicas": 0,
            "conditions": [
                {
                    "type": "ReplicaFailure",
                    "status": "True",
                    "message": 'pods "fraud" is forbidden: exceeded quota: small',
                }
            ],
        }

    new = world.api.of_kind(kinds.REPLICA_SET)[-1]["metadata"]["name"]
    world.api.update(kinds.REPLICA_SET, new, samples.NAMESPACE, denied)
    await world.reconcile()
    named(world, Reason.POD_CREATION_DENIED)
    assert "exceeded quota: small" in world.condition("Ready")["message"]


async def test_an_environmental_failure_is_held_once_a_pod_was_ready(world):
    await serving_a(world)

    def was_ready_once(now: str) -> dict[str, object]:
        status = pods.waits("ImagePullBackOff")(now)
        status["containerStatuses"][0]["started"] = True
        return status

    await asked_for_b(world, was_ready_once)
    world.pass_deadline()
    await world.run()
    held_with_b(world, Reason.IMAGE_PULL)
    assert "pods of it were ready" in world.condition("Ready")["message"]


@pytest.mark.parametrize("status", ["kept", "wiped"])
async def test_when_the_revision_to_return_to_fails_too_nothing_flaps(world, status):
    await serving_a(world)
    await asked_for_b(world, pods.fetch_ends(20))
    for behaviour in (pods.fetch_ends(20), pods.fetch_ends(30), pods.serve_ends(1, restarts=9)):
        world.behaviours["a"] = behaviour
        world.advance(60)
        if status == "wiped":
            world.api.update(
                kinds.MODEL_DEPLOYMENT,
                samples.NAME,
                samples.NAMESPACE,
                lambda obj: obj.pop("status", None),
            )
        await world.run()
        assert world.applied_digest == samples.A
        world.pass_deadline()
        await world.run()
        assert world.applied_digest == samples.A
    assert world.condition("Stalled")["reason"] == "RolledBack"
    assert world.conditions["Available"] == "False"


STORIES = {
    "serving": (pods.ready, {}),
    "rolled back": (pods.fetch_ends(20), {}),
    "held": (pods.fetch_ends(20), {"rollout": {"onFailure": "Hold"}}),
    "under way": (pods.loading, {}),
    "named": (pods.fetch_ends(30), {}),
    "ambiguous": (pods.serve_ends(139, restarts=1), {}),
}


@pytest.mark.parametrize(("behaviour", "changes"), STORIES.values(), ids=STORIES)
async def test_a_wiped_status_changes_no_decision(world, behaviour, changes):
    await serving_a(world, **changes)
    await asked_for_b(world, behaviour)
    obs = world.observation()
    wiped = dataclasses.replace(obs, model=dataclasses.replace(obs.model, status={}))
    world.advance(1)
    one, other = (decide(o, world.settings, world.clock) for o in (obs, wiped))
    for field in dataclasses.fields(one):
        if field.name not in ("status", "events"):
            assert getattr(one, field.name) == getattr(other, field.name), field.name


@pytest.mark.parametrize(("behaviour", "changes"), STORIES.values(), ids=STORIES)
async def test_when_all_is_done_nothing_is_written(world, behaviour, changes):
    await serving_a(world, **changes)
    await asked_for_b(world, behaviour)
    count = len(world.api.writes)
    for _ in range(5):
        world.advance(60)
        await world.reconcile()
    world.restart()
    await world.reconcile()
    assert world.api.writes[count:] == []


class TestRetry:
    async def test_a_new_token_tries_a_rolled_back_revision_again(self, world):
        await serving_a(world)
        await asked_for_b(world, pods.fetch_ends(20))
        world.advance(60)
        world.behaviours["b"] = pods.ready
        world.annotate(retry="1")
        await world.run()
        assert world.conditions["Ready"] == "True"
        assert world.applied_digest == samples.B

    async def test_a_token_is_used_up_by_one_try(self, world):
        await serving_a(world)
        await asked_for_b(world, pods.fetch_ends(20))
        tries = len(rollouts_of(world, samples.B))
        for token in ("1", "2"):
            world.advance(60)
            world.annotate(retry=token)
            await world.run()
            await world.run()
            rolled_back_to_a(world, Reason.DIGEST_MISMATCH)
            tries += 1
            assert len(rollouts_of(world, samples.B)) == tries

    async def test_a_token_that_was_there_before_is_no_new_one(self, world):
        world.apply(digest=samples.A)
        world.annotate(retry="1")
        await world.run()
        await asked_for_b(world, pods.fetch_ends(20))
        rolled_back_to_a(world, Reason.DIGEST_MISMATCH)
        assert len(rollouts_of(world, samples.B)) == 1

    async def test_a_token_given_while_it_is_failing_is_no_new_one_afterwards(self, world):
        await serving_a(world)
        await asked_for_b(world, pods.fetch_ends(30))
        world.advance(60)
        world.annotate(retry="1")
        await world.run()
        world.pass_deadline()
        await world.run()
        rolled_back_to_a(world, Reason.ARTIFACT_NOT_FOUND)
        assert len(rollouts_of(world, samples.B)) == 1

    async def test_a_held_revision_is_not_judged_by_the_deadline_that_it_missed(self, world):
        await serving_a(world, rollout={"onFailure": "Hold"})
        await asked_for_b(world, pods.unschedulable)
        world.pass_deadline()
        await world.run()
        held_with_b(world, Reason.UNSCHEDULABLE)
        world.advance(60)
        world.annotate(retry="1")
        await world.run()
        assert world.conditions["Ready"] == "Unknown"
        assert world.results[-1].requeue_after == 600.0
        # The controller never says it again, since nothing moved: the time is taken here.
        world.advance(600)
        await world.run()
        held_with_b(world, Reason.UNSCHEDULABLE)

    async def test_a_retry_shortly_before_the_deadline_has_its_whole_time(self, world):
        """The Deployment controller counts from the last progress, and knows of no retry."""
        await serving_a(world)
        await asked_for_b(world, pods.loading)
        allowed = world.deployment["spec"]["progressDeadlineSeconds"]
        world.advance(allowed - 5)
        world.annotate(retry="1")
        await world.run()
        world.pass_deadline(after=6)
        await world.run()
        assert world.conditions["Ready"] == "Unknown"
        assert world.results[-1].requeue_after == allowed - 6
        world.advance(allowed)
        await world.run()
        rolled_back_to_a(world, Reason.PROGRESS_DEADLINE)

    async def test_what_is_held_for_its_deadline_is_served_once_its_pods_are_ready(self, world):
        await serving_a(world, rollout={"onFailure": "Hold"})
        await asked_for_b(world, pods.loading)
        world.pass_deadline()
        await world.run()
        held_with_b(world, Reason.PROGRESS_DEADLINE)
        world.annotate(retry="1")
        await world.run()
        world.advance(world.deployment["spec"]["progressDeadlineSeconds"])
        await world.run()
        held_with_b(world, Reason.PROGRESS_DEADLINE)
        world.behaviours["b"] = pods.ready
        await world.run()
        assert world.conditions["Ready"] == "True"
        assert "Stalled" not in world.conditions

    async def test_what_happened_in_the_second_of_the_retry_is_not_judged(self, world):
        await serving_a(world, rollout={"onFailure": "Hold"})
        await asked_for_b(world, pods.fetch_ends(20))
        world.annotate(retry="1")
        await world.reconcile()
        assert world.conditions["Ready"] == "Unknown"

    async def test_stuck_pods_are_replaced_and_ready_ones_are_not(self, world):
        await serving_a(world, rollout={"onFailure": "Hold"})
        await asked_for_b(world, pods.fetch_ends(20))
        before = {p["metadata"]["name"] for p in world.api.of_kind(kinds.POD)}
        world.advance(60)
        world.behaviours["b"] = pods.loading
        world.annotate(retry="1")
        await world.run()
        after = {p["metadata"]["name"] for p in world.api.of_kind(kinds.POD)}
        assert len(before & after) == 1
        deleted = [w for w in world.api.writes if w.verb == "delete"]
        assert len(deleted) == 1


def rollouts_of(world: World, wanted: str) -> list[object]:
    """Writes to the Deployment that brought in the template of that digest."""
    return [w for w in world.templates if w == wanted]


class TestWhosePodsCount:
    async def test_those_of_the_version_before_say_nothing_against_the_new_one(self, world):
        await serving_a(world)
        world.behaviours["a"] = pods.serve_ends(21, restarts=9)
        await asked_for_b(world, pods.loading)
        assert world.applied_digest == samples.B
        assert "lastFailure" not in world.status
        assert "Stalled" not in world.conditions
        # And those of the new one do, whatever the others say.
        world.behaviours["b"] = pods.serve_ends(22)
        await world.run()
        assert world.status["lastFailure"]["reason"] == Reason.UNSUPPORTED_OPSET
        assert world.status["lastFailure"]["digest"] == samples.B


class TestGoingBackAndForth:
    async def test_back_to_the_good_spec_ends_the_failure(self, world):
        await serving_a(world)
        await asked_for_b(world, pods.fetch_ends(20))
        pods_before = {p["metadata"]["uid"] for p in world.api.of_kind(kinds.POD)}
        world.apply(digest=samples.A)
        await world.run()
        assert world.conditions["Ready"] == "True"
        assert world.status["target"] == {
            "digest": samples.A,
            "uri": "s3://models/fraud.onnx",
            "revision": 3,
        }
        assert {p["metadata"]["uid"] for p in world.api.of_kind(kinds.POD)} == pods_before

    async def test_each_return_is_a_new_number_of_the_same_revision(self, world):
        await serving_a(world)
        for letter, number in ((samples.B, 2), (samples.A, 3), (samples.B, 4), (samples.A, 5)):
            world.advance(10)
            world.apply(digest=letter)
            await world.run()
            assert world.conditions["Ready"] == "True"
            assert world.status["serving"]["revision"] == number
        assert len(world.revisions) == 2
        assert len(world.api.of_kind(kinds.REPLICA_SET)) == 2

    async def test_a_failed_revision_that_is_asked_for_anew_is_tried_anew(self, world):
        await serving_a(world)
        await asked_for_b(world, pods.fetch_ends(20))
        world.apply(digest=samples.A)
        await world.run()
        world.advance(60)
        await asked_for_b(world, pods.ready)
        assert world.conditions["Ready"] == "True"
        assert world.applied_digest == samples.B

    async def test_what_its_pods_of_the_last_time_say_does_not_count(self, world):
        await serving_a(world, rollout={"onFailure": "Hold"})
        await asked_for_b(world, pods.fetch_ends(20))
        held_with_b(world, Reason.DIGEST_MISMATCH)
        world.controllers = lambda: None
        for letter in (samples.A, samples.B):
            world.advance(60)
            world.apply(digest=letter)
            await world.run()
        assert world.status["target"]["revision"] == 4
        assert "Stalled" not in world.conditions
        # They fail again, and now it counts.
        del world.controllers
        world.advance(60)
        for pod in world.api.of_kind(kinds.POD):
            world.api.remove(kinds.POD, pod)
        await world.run()
        held_with_b(world, Reason.DIGEST_MISMATCH)

    async def test_pods_that_were_evicted_the_last_time_do_not_count(self, world):
        await serving_a(world)
        (old,) = world.api.of_kind(kinds.REPLICA_SET)
        await asked_for_b(world, pods.ready)
        for number in range(ENOUGH):
            world.api.add(
                kinds.POD,
                {
                    "metadata": {
                        "name": f"evicted-{number}",
                        "namespace": samples.NAMESPACE,
                        "labels": old["metadata"]["labels"],
                        "ownerReferences": [
                            {
                                "kind": "ReplicaSet",
                                "name": old["metadata"]["name"],
                                "uid": old["metadata"]["uid"],
                                "controller": True,
                            }
                        ],
                    },
                    "status": pods.evicted(world.api.now()),
                },
            )
        world.controllers = lambda: None
        world.advance(60)
        world.apply(digest=samples.A)
        await world.run()
        assert world.applied_digest == samples.A
        assert world.status["target"]["digest"] == samples.A
        assert "Stalled" not in world.conditions
        assert "lastFailure" not in world.status

    async def test_the_deadline_of_the_one_before_does_not_count_for_an_old_revision(self, world):
        await serving_a(world, rollout={"onFailure": "Hold"}, replicas=2)
        await asked_for_b(world, pods.unschedulable)
        world.pass_deadline()
        await world.run()
        held_with_b(world, Reason.UNSCHEDULABLE)
        world.behaviours["a"] = pods.loading
        world.apply(digest=samples.A)
        await world.run()
        assert "Stalled" not in world.conditions

    async def test_failures_go_back_to_what_was_good_last(self, world):
        await serving_a(world)
        world.apply(digest=samples.C)
        await world.run()
        world.apply(digest=samples.A)
        await world.run()
        world.apply(digest=samples.C)
        await world.run()
        await asked_for_b(world, pods.fetch_ends(20))
        assert world.applied_digest == samples.C

    async def test_one_that_was_asked_for_anew_and_not_completed_was_not_good_last(self, world):
        await serving_a(world)
        world.apply(digest=samples.C)
        await world.run()
        world.behaviours["a"] = pods.loading
        world.apply(digest=samples.A)
        await world.run()
        # It was good once; that says nothing about now.
        assert world.conditions["Ready"] == "Unknown"
        assert world.status["target"]["revision"] == 3
        await asked_for_b(world, pods.fetch_ends(20))
        assert world.applied_digest == samples.C

    async def test_a_revision_that_never_completed_is_nothing_to_go_back_to(self, world):
        await serving_a(world)
        world.behaviours["c"] = pods.loading
        world.apply(digest=samples.C)
        await world.run()
        await asked_for_b(world, pods.fetch_ends(20))
        assert world.applied_digest == samples.A


class TestWhileItIsFailed:
    @pytest.mark.parametrize("replicas", [1, 5, 0])
    async def test_scaling_changes_the_number_and_nothing_else(self, world, replicas):
        await serving_a(world, replicas=2)
        await asked_for_b(world, pods.fetch_ends(20))
        template = world.deployment["spec"]["template"]
        world.apply(replicas=replicas)
        await world.run()
        assert world.deployment["spec"]["template"] == template
        assert world.deployment["spec"]["replicas"] == replicas
        assert world.condition("Stalled")["reason"] == "RolledBack"

    async def test_hold_turned_to_rollback_goes_back(self, world):
        await serving_a(world, rollout={"onFailure": "Hold"})
        await asked_for_b(world, pods.fetch_ends(20))
        world.apply(rollout={"onFailure": "Rollback"})
        await world.run()
        rolled_back_to_a(world, Reason.DIGEST_MISMATCH)

    async def test_rollback_turned_to_hold_stays_where_it_is(self, world):
        await serving_a(world)
        await asked_for_b(world, pods.fetch_ends(20))
        world.apply(rollout={"onFailure": "Hold"})
        await world.run()
        rolled_back_to_a(world, Reason.DIGEST_MISMATCH)

    async def test_a_revision_that_was_deleted_by_hand_moves_no_pod(self, world):
        await serving_a(world)
        await asked_for_b(world, pods.fetch_ends(20))
        good = world.revisions[0]
        world.api.remove(kinds.CONTROLLER_REVISION, good)
        await world.run()
        assert world.applied_digest == samples.A
        assert "the revision to return to is gone" in world.condition("Ready")["message"]


class TestOneEventForEachTransition:
    async def test_a_failed_rollout(self, world):
        await serving_a(world)
        await asked_for_b(world, pods.fetch_ends(20))
        told = [(e["type"], e["reason"]) for e in world.events]
        assert told == [
            ("Normal", "Deploying"),
            ("Normal", "Serving"),
            ("Normal", "RollingOut"),
            ("Warning", "RolledBack"),
        ]
        assert all(e["involvedObject"]["uid"] for e in world.events)

    async def test_no_warning_for_pods_that_were_just_asked_for(self, world):
        await serving_a(world, replicas=2)
        simulated = world.controllers
        world.controllers = lambda: None
        world.apply(digest=samples.A, replicas=4)
        await world.run()
        assert world.condition("Ready")["reason"] == "PodsMissing"
        world.controllers = simulated
        await world.run()
        told = [(e["type"], e["reason"]) for e in world.events][-2:]
        assert told == [("Normal", "PodsMissing"), ("Normal", "Serving")]

    async def test_a_warning_for_lost_pods_while_others_serve(self, world):
        await serving_a(world, replicas=2)
        simulated = world.controllers
        world.controllers = lambda: None
        world.change(
            kinds.DEPLOYMENT, lambda d: d["status"].update(readyReplicas=1, availableReplicas=1)
        )
        await world.run()
        assert world.conditions["Ready"] == "True"
        assert [(e["type"], e["reason"]) for e in world.events][-1] == ("Warning", "PodsMissing")
        world.controllers = simulated
        await world.run()
        assert [(e["type"], e["reason"]) for e in world.events][-1] == ("Normal", "Serving")

    async def test_none_while_only_the_message_changes(self, world):
        await serving_a(world, replicas=3)
        count = len(world.events)
        world.apply(replicas=2)
        await world.run()
        assert len(world.events) == count


TIMEOUT = "10.0.0.9:443: i/o timeout"


class TestMessagesStandStill:
    @pytest.mark.parametrize(
        "turns",
        [
            pytest.param(
                [
                    ("ErrImagePull", f"dial tcp 10.1.1.1:40001->{TIMEOUT}"),
                    (
                        "ImagePullBackOff",
                        f'Back-off pulling image "x": ErrImagePull: dial tcp 10.1.1.1:5->{TIMEOUT}',
                    ),
                ],
                id="image pull",
            ),
            pytest.param(
                [
                    ("CreateContainerError", f'name "fetch" is reserved for "{letter * 64}"')
                    for letter in "abc"
                ],
                id="container ids",
            ),
        ],
    )
    async def test_though_the_kubelet_words_it_anew_each_time(self, world, turns):
        world.apply(digest=samples.A)
        world.behaviours["a"] = pods.waits(*turns[0])
        await world.run()
        count = len(world.api.writes)
        for reason, message in turns[1:] + turns:
            world.behaviours["a"] = pods.waits(reason, message)
            await world.run()
        assert world.api.writes[count:] == []

    async def test_though_a_crashing_container_comes_and_goes(self, world):
        world.apply(digest=samples.A)
        world.behaviours["a"] = pods.serve_ends(139, "it broke", restarts=5)
        await world.run()
        count = len(world.api.writes)
        for restarts in (6, 7):
            world.behaviours["a"] = pods.serve_ends(139, "it broke", restarts=restarts)
            await world.run()
        assert world.api.writes[count:] == []

    async def test_the_digest_in_a_message_stays(self, world):
        await serving_a(world)
        message = f"expected {samples.B}, got {samples.C}"
        await asked_for_b(world, pods.fetch_ends(20, message))
        assert message in world.status["lastFailure"]["message"]


class TestADamagedCache:
    async def test_the_pod_is_replaced_not_the_revision_blamed(self, world):
        await serving_a(world)
        before = world.api.of_kind(kinds.POD)[0]["metadata"]["uid"]
        world.behaviours["a"] = pods.serve_ends(20)
        await world.run()
        assert [w for w in world.api.writes if w.verb == "delete"] == []
        assert world.results[-1].requeue_after == 30.0
        world.advance(30)
        world.behaviours["a"] = pods.ready
        world.controllers = lambda: None
        await world.reconcile()
        await world.reconcile()
        del world.controllers
        await world.run()
        assert len([w for w in world.api.writes if w.verb == "delete"]) == 1
        assert world.api.of_kind(kinds.POD)[0]["metadata"]["uid"] != before
        assert world.conditions["Ready"] == "True"

    async def test_a_pod_is_deleted_once_however_late_the_watch_tells(self, world):
        await serving_a(world)
        world.behaviours["a"] = pods.serve_ends(20)
        await world.run()
        world.advance(30)
        for _ in range(3):
            await world.reconciler.reconcile((samples.NAMESPACE, samples.NAME))
        assert len([w for w in world.api.writes if w.verb == "delete"]) == 1

    async def test_of_a_pod_that_is_ready_again_is_no_reason_to_delete_it(self, world):
        await serving_a(world)

        def came_back(now):
            status = pods.ready(now)
            serve = status["containerStatuses"][0]
            serve["lastState"] = {"terminated": pods.termination(20, None, now)}
            return status

        world.behaviours["a"] = came_back
        world.controllers()
        world.advance(60)
        await world.run()
        assert [w for w in world.api.writes if w.verb == "delete"] == []
        assert world.results[-1].requeue_after is None

    async def test_of_a_pod_that_may_not_be_deleted_holds_nothing_up(self, world):
        await serving_a(world)
        world.behaviours["a"] = pods.serve_ends(20)
        await world.run()
        world.api.before = denies("Pod")
        world.advance(30)
        world.apply(replicas=0)
        await world.run()
        assert world.deployment["spec"]["replicas"] == 0
        assert world.condition("Ready")["reason"] == "ScaledToZero"

    async def test_no_intrinsic_verdict_comes_of_it(self, world):
        await serving_a(world)
        await asked_for_b(world, pods.serve_ends(20))
        named(world, Reason.CRASH)


class TestWokenFromZero:
    """The Deployment controller counts no time after a rollout that was complete with no pod."""

    @staticmethod
    async def woken(world: World, behaviour: pods.Behaviour) -> None:
        await serving_a(world)
        world.apply(replicas=0)
        await world.run()
        await asked_for_b(world, behaviour)
        world.advance(3600)
        world.apply(replicas=1)
        await world.run()

    async def test_the_deadline_counts_from_the_pod_that_does_not_come_up(self, world):
        await self.woken(world, pods.fetch_ends(31))
        named(world, Reason.ACCESS_DENIED)
        deadline = world.deployment["spec"]["progressDeadlineSeconds"]
        world.advance(deadline - 1)
        await world.run()
        named(world, Reason.ACCESS_DENIED)
        world.advance(2)
        await world.run()
        rolled_back_to_a(world, Reason.ACCESS_DENIED)

    async def test_a_pod_that_comes_up_is_good_however_long_ago_the_rollout_was(self, world):
        await self.woken(world, pods.ready)
        assert world.conditions["Ready"] == "True"
        assert world.status["serving"]["digest"] == samples.B

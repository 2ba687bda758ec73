"""Whatever write the operator dies at, the next one brings the cluster to the same end."""

from __future__ import annotations

import copy
import re
from collections.abc import Awaitable, Callable

import pytest
from fake_cluster import pods, samples
from fake_cluster.api import Write
from fake_cluster.world import World

from slipway_operator.reconcile import kinds
from slipway_operator.reconcile.kube import ApiError, NotLeaderError, TransportError
from slipway_operator.reconcile.reconciler import UnsettledError

Json = dict[str, object]


class KilledError(Exception):
    """The process is gone at this very place."""


async def nothing(world: World) -> None:
    pass


async def serving_a(world: World) -> None:
    world.apply(digest=samples.A, replicas=2)
    await world.run()


async def serving_five(world: World) -> None:
    world.apply(digest=samples.A, replicas=5)
    await world.run()


async def rolled_back(world: World) -> None:
    await serving_a(world)
    failing_rollout(world)
    await world.run()
    world.advance(60)
    world.behaviours["b"] = pods.ready


async def held(world: World) -> None:
    world.apply(rollout={"onFailure": "Hold"})
    await rolled_back(world)


async def autoscaled(world: World) -> None:
    await serving_five(world)
    autoscaling_on(world)
    await world.run()


async def with_storage(world: World) -> None:
    storage = {"secretName": "reader", "caBundle": {"configMapName": "ca"}}
    model = {"uri": "s3://models/fraud.onnx", "digest": samples.A, "storage": storage}
    world.apply(digest=samples.A, model=model, template={"nodeSelector": {"zone": "one"}})
    await world.run()


def first_create(world: World) -> None:
    world.apply(digest=samples.A, replicas=2)


def rollout(world: World) -> None:
    world.apply(digest=samples.B)


def failing_rollout(world: World) -> None:
    world.behaviours["b"] = pods.fetch_ends(20)
    world.apply(digest=samples.B)


def autoscaling_on(world: World) -> None:
    world.apply(autoscaling={"minReplicas": 2, "maxReplicas": 8}, replicas=1)


def autoscaling_off(world: World) -> None:
    world.apply(autoscaling=..., replicas=3)


def retry(world: World) -> None:
    world.annotate(retry="1")


def back_to_a(world: World) -> None:
    world.apply(digest=samples.A)


def without_storage(world: World) -> None:
    model = {"uri": "s3://models/fraud.onnx", "digest": samples.A}
    world.apply(model=model, template=...)


def to_zero(world: World) -> None:
    world.apply(replicas=0)


def hand_edits(world: World) -> None:
    world.change(kinds.DEPLOYMENT, lambda d: d["spec"].update(paused=True, replicas=7))
    world.change(kinds.SERVICE, lambda s: s["spec"].update(selector={"app": "else"}))


SCENARIOS = [
    (nothing, first_create),
    (serving_a, rollout),
    (serving_a, failing_rollout),
    (held, retry),
    (rolled_back, retry),
    (rolled_back, back_to_a),
    (serving_five, autoscaling_on),
    (autoscaled, autoscaling_off),
    (with_storage, without_storage),
    (serving_a, to_zero),
    (serving_a, hand_edits),
]
POD_NAME = re.compile(rf"{samples.NAME}-[0-9a-f]{{10}}-\d+-\d+x*")
TIMES = {"lastTransitionTime", "lastUpdateTime", "creationTimestamp", "since", "time"}
NUMBERS = {"uid", "resourceVersion", "managedFields"}


def end_of(world: World) -> Json:
    """What there is, without what differs from one run to the next in any case."""

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items() if k not in TIMES | NUMBERS}
        if isinstance(value, list):
            return [plain(item) for item in value]
        return POD_NAME.sub("(pod)", value) if isinstance(value, str) else value

    end: Json = {}
    for (kind, _, name), obj in sorted(world.api.objects.items()):
        if kind in ("Pod", "ReplicaSet"):
            end.setdefault(kind, []).append(plain(obj.get("status")))  # type: ignore[union-attr]
        elif kind != "Event":
            said = copy.deepcopy({k: v for k, v in obj.items() if k != "metadata"})
            metadata = obj["metadata"]
            annotations = {
                k: v
                for k, v in (metadata.get("annotations") or {}).items()
                if not k.endswith("-time")
            }
            generation = None if kind == "Deployment" else metadata["generation"]
            said["metadata"] = [metadata.get("labels"), annotations, generation]
            if kind == "Deployment":
                said["status"] = {**said["status"], "observedGeneration": None}
            end[f"{kind}/{name}"] = plain(said)
    for statuses in ("Pod", "ReplicaSet"):
        if statuses in end:
            end[statuses] = sorted(end[statuses], key=str)  # type: ignore[type-var, arg-type]
    return end


def told(world: World) -> list[tuple[str, str]]:
    """Type and reason of each Event, in their order."""
    return [(event["type"], event["reason"]) for event in world.events]


async def begin(prepare: Callable[[World], Awaitable[None]], act: Callable[[World], None]) -> World:
    world = World()
    await prepare(world)
    world.advance(10)
    act(world)
    return world


def name_of(value: object) -> str:
    return value.__name__.replace("_", " ") if callable(value) else str(value)


def faults(kind: str, at: int) -> Callable[[World], None]:
    """Sets one fault at the write with that number."""

    def strike(error: Exception, counted: list[int]) -> Callable[[Write], None]:
        def hook(write: Write) -> None:
            if write.index == at and not counted:
                counted.append(at)
                raise error

        return hook

    def arm(world: World) -> None:
        counted: list[int] = []
        match kind:
            case "killed before":
                world.api.before = strike(KilledError(), counted)
            case "killed after":
                world.api.after = strike(KilledError(), counted)
            case "connection lost before":
                world.api.before = strike(TransportError("lost"), counted)
            case "connection lost after":
                world.api.after = strike(TransportError("lost"), counted)
            case "conflict":
                world.api.before = strike(ApiError(409, "Conflict", "modified"), counted)
            case "leadership lost":
                world.api.before = strike(NotLeaderError(), counted)

    return arm


# An Event that the API server does not take is left out: the status says the same.
LEFT_OUT = {"connection lost before", "conflict"}


@pytest.mark.parametrize(
    "fault",
    [
        "killed before",
        "killed after",
        "connection lost before",
        "connection lost after",
        "conflict",
        "leadership lost",
    ],
)
@pytest.mark.parametrize(("prepare", "act"), SCENARIOS, ids=name_of)
async def test_the_end_is_the_same_wherever_a_write_fails(prepare, act, fault):
    undisturbed = await begin(prepare, act)
    first = len(undisturbed.api.writes)
    await undisturbed.run()
    expected = end_of(undisturbed)
    last = len(undisturbed.api.writes)
    assert last > first

    for at in range(first, last):
        world = await begin(prepare, act)
        faults(fault, at)(world)
        try:
            await world.run()
        except (KilledError, NotLeaderError):
            world.restart()
        except (TransportError, ApiError, UnsettledError):
            # A worker takes the key up again; the process and what it knows stay.
            pass
        await world.run()
        assert end_of(world) == expected, f"after write {at}: {undisturbed.api.writes[at]}"
        # None is told twice: whoever dies between Event and status tells it by the same name.
        assert len(world.events) <= len(undisturbed.events)
        struck = undisturbed.api.writes[at]
        # None is lost either, but of what the operator never saw: pods that came back meanwhile.
        if act is not hand_edits and not (struck.kind == "Event" and fault in LEFT_OUT):
            assert told(world) == told(undisturbed), f"after {struck}"


@pytest.mark.parametrize(("prepare", "act"), SCENARIOS, ids=name_of)
async def test_a_new_process_at_every_step_comes_to_the_same_end(prepare, act):
    undisturbed = await begin(prepare, act)
    await undisturbed.run()
    world = await begin(prepare, act)
    for _ in range(12):
        world.restart()
        await world.reconcile()
        world.controllers()
    await world.run()
    assert end_of(world) == end_of(undisturbed)


async def test_a_new_model_gets_its_deployment_before_anything_else(world):
    """Of many that are created at once, none waits for another's Service."""
    first_create(world)
    result = await world.reconcile()
    assert [(w.verb, w.kind) for w in world.api.writes] == [
        ("create", "ControllerRevision"),
        ("create", "Deployment"),
    ]
    assert result.unfinished
    result = await world.reconcile()
    told = [(w.verb, w.kind) for w in world.api.writes[2:]]
    assert ("create", "Service") in told
    assert told.index(("create", "Service")) < told.index(("apply/status", "ModelDeployment"))
    assert not result.unfinished


async def test_a_deployment_that_cannot_be_created_is_told_at_once(world):
    first_create(world)

    def before(write: Write) -> None:
        if write.kind == "Deployment":
            raise ApiError(403, "Forbidden", "exceeded quota")

    world.api.before = before
    await world.reconcile()
    assert world.condition("Stalled")["reason"] == "ApplyRejected"


async def test_a_verdict_that_cannot_be_recorded_is_told_and_nothing_is_done_by_it(world):
    await serving_a(world)
    failing_rollout(world)

    def before(write: Write) -> None:
        if write.kind == "ControllerRevision" and write.verb == "merge":
            raise ApiError(403, "Forbidden", "policy: revisions are frozen")

    world.api.before = before
    await world.run()
    told = world.condition("Stalled")
    assert told["reason"] == "ApplyRejected"
    assert "refuses the ControllerRevision" in told["message"]
    assert "revisions are frozen" in told["message"]
    assert world.applied_digest == samples.B
    world.api.before = lambda write: None
    world.advance(60)
    await world.run()
    assert world.condition("Stalled")["reason"] == "RolledBack"
    assert world.applied_digest == samples.A


async def test_a_removal_that_is_refused_is_told(world):
    await serving_a(world)
    assert world.own(kinds.POD_DISRUPTION_BUDGET) is not None

    def before(write: Write) -> None:
        if write.verb == "delete":
            raise ApiError(403, "Forbidden", "policy: nothing is deleted")

    world.api.before = before
    world.apply(replicas=1)
    await world.run()
    told = world.condition("Stalled")
    assert told["reason"] == "ApplyRejected"
    assert "refuses to delete the PodDisruptionBudget" in told["message"]


async def test_the_verdict_is_written_before_the_pods_change(world):
    await serving_a(world)
    failing_rollout(world)
    await world.reconcile()
    world.controllers()
    begin_at = len(world.api.writes)
    await world.reconcile()
    told = [(w.verb, w.kind) for w in world.api.writes[begin_at:]]
    assert told.index(("merge", "ControllerRevision")) < told.index(("apply", "Deployment"))
    assert told.index(("apply", "Deployment")) < told.index(("create", "Event"))
    assert told[-1] == ("apply/status", "ModelDeployment")


async def test_a_connection_that_is_lost_between_verdict_and_rollback_loses_neither(world):
    await serving_a(world)
    failing_rollout(world)
    await world.reconcile()
    world.controllers()

    def before(write: Write) -> None:
        if (write.verb, write.kind) == ("apply", "Deployment"):
            raise TransportError("lost")

    world.api.before = before
    with pytest.raises(TransportError):
        await world.reconcile()
    assert world.applied_digest == samples.B
    # The pods of B become fine meanwhile; what was decided stays decided.
    world.behaviours["b"] = pods.loading
    world.controllers()
    world.api.before = lambda _: None
    world.restart()
    await world.run()
    assert world.applied_digest == samples.A


async def test_nobody_writes_for_a_spec_that_has_changed_meanwhile(world):
    """A new leader may see the children of a spec before the spec itself."""
    await serving_a(world)
    behind = World()
    behind.api = world.api
    behind.restart()
    behind.watch()
    world.apply(digest=samples.B)
    await world.run()
    count = len(world.api.writes)
    # It gets the events of the children, and not yet that of the ModelDeployment.
    for kind in (kinds.DEPLOYMENT, kinds.CONTROLLER_REVISION):
        for obj in world.api.of_kind(kind):
            behind.store.put(kind, copy.deepcopy(obj))
    await behind.reconciler.reconcile((samples.NAMESPACE, samples.NAME))
    assert {w.verb for w in world.api.writes[count:]} <= {"apply/status"}


async def test_a_scaling_by_the_autoscaler_is_never_undone_by_a_write_that_was_on_its_way(world):
    await serving_five(world)
    autoscaling_on(world)
    await world.run()
    world.apply(digest=samples.B)
    struck: list[int] = []

    def before(write: Write) -> None:
        if (write.verb, write.kind) == ("apply", "Deployment") and not struck:
            struck.append(write.index)
            autoscaler_sets(world, 7)

    world.api.before = before
    seen: list[int] = []
    world.api.after = lambda _: seen.append(world.deployment["spec"]["replicas"])
    await world.run()
    assert struck
    assert seen[-1] == 7
    assert set(seen[seen.index(7) :]) == {7}


def autoscaler_sets(world: World, replicas: int) -> None:
    """As the HPA writes through the scale subresource: it then owns the field."""

    def change(deployment: dict[str, dict[str, object]]) -> None:
        deployment["spec"]["replicas"] = replicas
        entries = deployment["metadata"]["managedFields"]
        for entry in entries:  # type: ignore[attr-defined]
            entry["fieldsV1"].get("f:spec", {}).pop("f:replicas", None)
        entries.append(  # type: ignore[attr-defined]
            {
                "manager": "kube-controller-manager",
                "operation": "Update",
                "subresource": "scale",
                "fieldsV1": {"f:spec": {"f:replicas": {}}},
            }
        )

    world.change(kinds.DEPLOYMENT, change)


class TestAutoscaling:
    async def test_switching_it_on_never_dips(self, world):
        await serving_five(world)
        seen: list[int] = []
        world.api.after = lambda _: seen.append(world.deployment["spec"]["replicas"])
        autoscaling_on(world)
        await world.run()
        autoscaler_sets(world, 6)
        world.apply(digest=samples.B)
        await world.run()
        assert set(seen) == {5, 6}
        assert world.deployment["spec"]["replicas"] == 6
        assert world.own(kinds.AUTOSCALER) is not None

    async def test_a_rollout_before_the_autoscaler_ever_wrote_never_dips(self, world):
        """To leave out a field as its only owner would set it to 1."""
        await serving_five(world)
        autoscaling_on(world)
        await world.run()
        seen: list[int] = []
        world.api.after = lambda _: seen.append(world.deployment["spec"]["replicas"])
        for letter in (samples.B, samples.A, samples.C):
            world.apply(digest=letter)
            await world.run()
        assert set(seen) == {5}

    async def test_what_the_autoscaler_owns_is_not_ours_again(self, world):
        await serving_five(world)
        autoscaling_on(world)
        await world.run()
        autoscaler_sets(world, 6)
        world.apply(digest=samples.B)
        await world.run()
        owners = [
            entry["manager"]
            for entry in world.deployment["metadata"]["managedFields"]
            if "f:replicas" in entry["fieldsV1"]["f:spec"]
        ]
        assert owners == ["kube-controller-manager"]

    async def test_the_starting_value_is_within_the_bounds(self, world):
        world.apply(digest=samples.A, replicas=1, autoscaling={"minReplicas": 3, "maxReplicas": 4})
        await world.reconcile()
        assert world.deployment["spec"]["replicas"] == 3

    async def test_scaled_to_zero_by_hand_it_stays_there(self, world):
        await serving_five(world)
        autoscaling_on(world)
        await world.run()
        autoscaler_sets(world, 6)
        world.apply(replicas=0)
        await world.run()
        assert world.deployment["spec"]["replicas"] == 0
        assert world.own(kinds.AUTOSCALER) is None
        world.apply(replicas=1)
        await world.run()
        assert world.deployment["spec"]["replicas"] == 2

    async def test_switched_off_the_spec_decides_again(self, world):
        await serving_five(world)
        autoscaling_on(world)
        await world.run()
        autoscaler_sets(world, 8)
        autoscaling_off(world)
        await world.run()
        assert world.deployment["spec"]["replicas"] == 3
        assert world.own(kinds.AUTOSCALER) is None


class TestHealing:
    async def test_a_child_edited_by_hand(self, world):
        await serving_a(world)
        hand_edits(world)
        await world.run()
        assert (world.deployment["spec"]["paused"], world.deployment["spec"]["replicas"]) == (
            False,
            2,
        )
        assert world.own(kinds.SERVICE)["spec"]["selector"] != {"app": "else"}

    @pytest.mark.parametrize("kind", [kinds.DEPLOYMENT, kinds.SERVICE], ids=lambda k: k.name)
    async def test_a_child_that_was_deleted(self, world, kind):
        await serving_a(world)
        world.api.remove(kind, world.own(kind))
        await world.run()
        assert world.own(kind) is not None
        assert world.conditions["Ready"] == "True"

    async def test_a_child_whose_labels_were_taken_off_is_not_lost_for_ever(self, world):
        """A watch with a label selector then tells that it was deleted."""
        await serving_a(world)
        world.change(kinds.DEPLOYMENT, lambda d: d["metadata"].update(labels={}))
        world.watch()
        world.store.remove(kinds.DEPLOYMENT, world.deployment)
        await world.reconciler.reconcile((samples.NAMESPACE, samples.NAME))
        assert "slipway.dev/model" in world.deployment["metadata"]["labels"]

    @pytest.mark.parametrize("process", ["the same", "a new one"])
    async def test_a_good_revision_whose_labels_were_taken_off_is_found_for_a_rollback(
        self, world, process
    ):
        await serving_a(world)
        (good,) = world.revisions
        failing_rollout(world)
        await world.reconcile()
        name = good["metadata"]["name"]
        world.api.update(
            kinds.CONTROLLER_REVISION,
            name,
            samples.NAMESPACE,
            lambda r: r["metadata"].update(labels={}),
        )
        if process == "a new one":
            world.restart()
        world.controllers()
        await world.run()
        assert world.condition("Stalled")["reason"] == "RolledBack"
        assert world.applied_digest == samples.A
        assert world.revisions[0]["metadata"]["labels"] == good["metadata"]["labels"]

    async def test_a_person_may_ask_for_one_whose_labels_were_taken_off(self, world):
        await serving_a(world)
        rollout(world)
        await world.run()
        world.api.update(
            kinds.CONTROLLER_REVISION,
            world.revisions[0]["metadata"]["name"],
            samples.NAMESPACE,
            lambda r: r["metadata"].update(labels={}),
        )
        world.annotate(**{"rollback-to": "1"})
        await world.run()
        assert world.applied_digest == samples.A

    async def test_what_another_manager_added_stays(self, world):
        await serving_a(world)

        def annotate(deployment: dict[str, dict[str, object]]) -> None:
            deployment["metadata"]["annotations"] = {"kubectl.kubernetes.io/restartedAt": "x"}

        world.change(kinds.DEPLOYMENT, annotate)
        count = len(world.api.writes)
        await world.run()
        assert world.api.writes[count:] == []

    async def test_a_field_that_the_first_revision_had_alone_goes_with_it(self, world):
        """It was sent with POST, which the API server keeps apart from what is applied."""
        await with_storage(world)
        without_storage(world)
        await world.run()
        pod = world.deployment["spec"]["template"]["spec"]
        assert "nodeSelector" not in pod
        assert [v["name"] for v in pod["volumes"]] == ["cache", "tmp"]
        names = [e["name"] for e in pod["initContainers"][0]["env"]]
        assert "AWS_ACCESS_KEY_ID" not in names
        assert world.deployment["spec"]["template"] == world.revisions[-1]["data"]["template"]

    async def test_a_restart_of_the_pods_by_kubectl_confuses_nobody(self, world):
        await serving_a(world)

        def restart(deployment: dict[str, dict[str, dict[str, dict[str, object]]]]) -> None:
            deployment["spec"]["template"]["metadata"]["annotations"]["restartedAt"] = "now"

        world.change(kinds.DEPLOYMENT, restart)
        await world.run()
        assert len(world.api.of_kind(kinds.REPLICA_SET)) == 2
        assert world.conditions["Ready"] == "True"
        assert world.status["serving"]["digest"] == samples.A


class TestOthersThings:
    async def test_a_foreign_object_of_the_name_is_never_written(self, world):
        foreign = world.api.add(
            kinds.DEPLOYMENT,
            {
                "metadata": {
                    "name": samples.NAME,
                    "namespace": samples.NAMESPACE,
                    "labels": {"slipway.dev/model": samples.NAME},
                },
                "spec": {"mine": True},
            },
        )
        before = copy.deepcopy(foreign)
        world.controllers = lambda: None
        world.apply(digest=samples.A)
        await world.run()
        assert world.deployment == before
        assert world.condition("Stalled")["reason"] == "NameConflict"
        assert world.results[-1].requeue_after == 10.0

    async def test_a_foreign_object_is_looked_at_again_without_a_write(self, world):
        await self.test_a_foreign_object_of_the_name_is_never_written(world)
        tried: list[Write] = []
        world.api.before = tried.append
        for _ in range(3):
            world.advance(10)
            await world.reconcile()
        assert tried == []

    async def test_when_it_is_gone_the_child_comes(self, world):
        await self.test_a_foreign_object_of_the_name_is_never_written(world)
        del world.controllers
        world.api.remove(kinds.DEPLOYMENT, world.deployment)
        await world.run()
        assert world.conditions["Ready"] == "True"

    async def test_what_belongs_to_a_deleted_namesake_is_no_revision_of_this_one(self, world):
        await serving_a(world)
        old = world.own(kinds.MODEL_DEPLOYMENT)
        left = (kinds.CONTROLLER_REVISION, kinds.DEPLOYMENT)
        orphans = copy.deepcopy([obj for kind in left for obj in world.api.of_kind(kind)])
        world.api.remove(kinds.MODEL_DEPLOYMENT, old)
        for orphan, kind in zip(orphans, left, strict=True):
            world.api.objects[kind.name, samples.NAMESPACE, orphan["metadata"]["name"]] = orphan
        world.controllers = lambda: None
        world.apply(digest=samples.A)
        await world.run()
        assert world.condition("Ready")["reason"] == "WaitingForDeletion"
        assert "Stalled" not in world.conditions
        assert world.deployment["metadata"]["uid"] == orphans[1]["metadata"]["uid"]

    async def test_nothing_is_written_while_the_resource_is_being_deleted(self, world):
        await serving_a(world)
        count = len(world.api.writes)
        world.change(
            kinds.MODEL_DEPLOYMENT, lambda m: m["metadata"].update(deletionTimestamp="now")
        )
        world.change(kinds.DEPLOYMENT, lambda d: d["spec"].update(replicas=9))
        await world.reconcile()
        assert world.results[-1].outcome == "deleting"
        assert world.api.writes[count:] == []

    async def test_a_resource_that_is_gone_is_gone(self, world):
        assert (await world.reconcile()).outcome == "gone"


async def test_what_is_refused_is_tried_less_and_less_often(world):
    tried: list[Write] = []

    def before(write: Write) -> None:
        if write.kind == "Deployment":
            tried.append(write)
            raise ApiError(403, "Forbidden", "denied by policy: images must be signed")

    await serving_a(world)
    rollout(world)
    world.api.before = before
    await world.reconcile()
    pauses: list[float] = []
    for _ in range(7):
        pauses.append(world.results[-1].requeue_after)
        world.advance(pauses[-1])
        await world.reconcile()
    assert world.condition("Stalled")["reason"] == "ApplyRejected"
    assert pauses == [30, 30, 60, 120, 240, 300, 300]
    assert len(tried) == 8
    world.api.before = lambda _: None
    await world.run()
    assert world.applied_digest == samples.B


async def test_a_leader_that_slept_reports_nothing_that_is_no_longer_so(world):
    await serving_a(world)
    failing_rollout(world)
    await world.reconcile()
    world.controllers()
    slept: list[Write] = []

    def before(write: Write) -> None:
        if write.kind == "ModelDeployment" and not slept:
            # It is frozen here; another leads, and a person asks for something else.
            slept.append(write)
            world.apply(digest=samples.A)

    world.api.before = before
    await world.reconcile()
    assert slept
    assert (
        world.status["observedGeneration"]
        == world.own(kinds.MODEL_DEPLOYMENT)["metadata"]["generation"]
    )


async def test_an_object_that_never_holds_still_is_given_up_for_now(world):
    await serving_a(world)
    world.apply(digest=samples.B)

    def before(write: Write) -> None:
        if write.kind == "Deployment":
            raise ApiError(409, "Conflict", "modified")

    world.api.before = before
    with pytest.raises(UnsettledError):
        await world.reconcile()

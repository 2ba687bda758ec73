"""What makes a revision, what keeps it, and what an upgrade of the operator does to it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fake_cluster import pods, samples
from fake_cluster.api import Write
from fake_cluster.world import World
from hypothesis import given
from hypothesis import strategies as st

from slipway_operator.api import names
from slipway_operator.api.settings import Settings
from slipway_operator.api.spec import ModelDeploymentSpec
from slipway_operator.api.status import Outcome
from slipway_operator.build.revision import Revision, controller_revision, render, spec_hash
from slipway_operator.reconcile import kinds
from slipway_operator.reconcile.kube import ApiError
from slipway_operator.reconcile.target import surplus

POOL = samples.settings().pools["cpu"]

NOT_OF_THE_POD: dict[str, st.SearchStrategy[Any]] = {
    "replicas": st.integers(0, 50),
    "suspend": st.booleans(),
    "autoscaling": st.none()
    | st.builds(
        lambda low, more: {"minReplicas": low, "maxReplicas": low + more},
        st.integers(1, 9),
        st.integers(0, 9),
    ),
    "networkPolicy": st.fixed_dictionaries(
        {}, optional={"enabled": st.booleans(), "egressCidrs": st.just(["10.0.0.0/8"])}
    ),
    "route": st.none()
    | st.just({"hostnames": ["fraud.example.com"], "path": "/", "ingress": {"className": "nginx"}}),
    "monitoring": st.fixed_dictionaries({}, optional={"enabled": st.booleans()}),
    "rollout": st.fixed_dictionaries(
        {},
        optional={
            "maxSurge": st.integers(1, 5) | st.just("25%"),
            "maxUnavailable": st.integers(0, 5),
            "minReadySeconds": st.integers(0, 60),
            "progressDeadlineSeconds": st.integers(61, 900),
            "onFailure": st.sampled_from(["Rollback", "Hold"]),
        },
    ),
}

OF_THE_POD: dict[str, dict[str, Any]] = {
    "digest": {"model": {"uri": "s3://models/fraud.onnx", "digest": samples.B}},
    "uri": {"model": {"uri": "s3://models/other.onnx", "digest": samples.A}},
    "storage": {
        "model": {
            "uri": "s3://models/fraud.onnx",
            "digest": samples.A,
            "storage": {"secretName": "reader"},
        }
    },
    "image": {"runtime": {"image": "registry.example/own:1"}},
    "providers": {"runtime": {"providers": ["OpenVINOExecutionProvider"]}},
    "preferred providers": {"runtime": {"preferredProviders": ["OpenVINOExecutionProvider"]}},
    "resources": {"runtime": {"resources": {"limits": {"memory": "1Gi"}}}},
    "threads": {"runtime": {"threads": {"intraOp": 2}}},
    "cache": {"runtime": {"cacheSize": "9Gi"}},
    "environment": {"runtime": {"env": [{"name": "TZ", "value": "UTC"}]}},
    "golden": {
        "golden": {
            "samples": [
                {
                    side: [{"name": side, "datatype": "FP32", "shape": [1], "data": [1.5]}]
                    for side in ("inputs", "outputs")
                }
            ]
        }
    },
    "labels": {"template": {"labels": {"team": "risk"}}},
    "annotations": {"template": {"annotations": {"note": "x"}}},
    "node selector": {"template": {"nodeSelector": {"zone": "a"}}},
    "tolerations": {"template": {"tolerations": [{"key": "x", "operator": "Exists"}]}},
    "affinity": {"template": {"affinity": {"nodeAffinity": {}}}},
    "service account": {"template": {"serviceAccountName": "reader"}},
    "priority": {"template": {"priorityClassName": "high"}},
    "pull secrets": {"template": {"imagePullSecrets": [{"name": "pull"}]}},
    "grace period": {"template": {"terminationGracePeriodSeconds": 99}},
    "pool": {"pool": "gpu"},
}


def identity(settings: Settings | None = None, **changes: Any) -> tuple[str, str]:
    model = samples.model(**changes)
    pool = (settings or samples.settings()).pools[model.spec.pool]
    rendered = render(model, pool)
    return rendered.hash, rendered.spec_hash


@given(st.fixed_dictionaries({}, optional=NOT_OF_THE_POD))
def test_what_does_not_reach_the_pod_is_not_part_of_the_identity(changes):
    given_ones = {key: value for key, value in changes.items() if value is not None}
    assert identity(**given_ones) == identity()


@pytest.mark.parametrize("changes", OF_THE_POD.values(), ids=OF_THE_POD)
def test_what_reaches_the_pod_is_part_of_the_identity(changes):
    one, other = identity(), identity(**changes)
    assert one[0] != other[0]
    assert one[1] != other[1]


def test_every_field_of_the_spec_is_known_to_reach_the_pod_or_not_to():
    """A new field must be put into one of the tables here."""
    reaching = {next(iter(changes)) for changes in OF_THE_POD.values()}
    fields = {field.alias for field in ModelDeploymentSpec.model_fields.values()}
    assert reaching | set(NOT_OF_THE_POD) == fields


def test_the_identity_of_a_spec_outlives_versions_of_the_operator():
    """Should this fail, then upgrading the operator restarts every model."""
    spec = samples.parsed_spec(template={"labels": {"team": "risk"}})
    assert spec_hash(samples.parsed_spec()) == "8607635372"
    assert spec_hash(spec) == "236b859f48"


def test_a_default_that_the_api_server_filled_in_changes_nothing():
    written_out = {
        "pool": "cpu",
        "runtime": {},
        "template": {},
        "rollout": {"onFailure": "Rollback"},
    }
    assert identity(**written_out) == identity()


def test_a_revision_reads_back_as_it_was_written():
    model = samples.model(annotations={names.ANNOTATION_RETRY: "7"})
    rendered = render(model, POOL)
    revision = Revision.parse(controller_revision(model, rendered, 4))
    assert (revision.number, revision.hash, revision.digest, revision.uri) == (
        4,
        rendered.hash,
        samples.A,
        "s3://models/fraud.onnx",
    )
    assert revision.template == rendered.template
    assert revision.outcome is Outcome.PENDING
    assert revision.retry_seen == "7"
    assert revision.object_name == f"fraud-{rendered.hash}"


@pytest.mark.parametrize(
    "spoilt",
    [
        {names.ANNOTATION_OUTCOME: "Whatever"},
        {names.ANNOTATION_GOOD_AS: "first"},
        {names.ANNOTATION_EVIDENCE: "{"},
        {names.ANNOTATION_EVIDENCE: "[]"},
        {names.ANNOTATION_EVIDENCE: "{}"},
        {names.ANNOTATION_EVIDENCE: '{"reason": [], "message": "x"}'},
        {names.ANNOTATION_EVIDENCE: '{"reason": "Not a word", "message": "x"}'},
        {names.ANNOTATION_EVIDENCE: '{"reason": "Crash", "message": "x", "exitCode": "1"}'},
        {names.ANNOTATION_OUTCOME_TIME: "yesterday"},
        {names.ANNOTATION_OUTCOME_TIME: "2026-11-21T12:00:00"},
    ],
    ids=str,
)
def test_annotations_that_somebody_spoilt_say_nothing(spoilt):
    model = samples.model()
    obj = controller_revision(model, render(model, POOL), 1)
    obj["metadata"]["annotations"] |= spoilt
    obj["metadata"]["labels"] = {}
    revision = Revision.parse(obj)
    assert (revision.outcome, revision.good_as, revision.evidence) == (Outcome.PENDING, None, None)
    assert revision.outcome_time is None


CHANGED = {
    "another default image": samples.changed_pool(image="registry.example/slipway-runtime:2.0"),
    "another pool profile": samples.changed_pool(nodeSelector={"zone": "b"}),
}


@pytest.mark.parametrize("after", CHANGED.values(), ids=CHANGED)
class TestAnUpgradeOfTheOperator:
    async def test_restarts_no_pod_and_says_outdated(self, world, after):
        world.apply(digest=samples.A)
        await world.run()
        template, count = world.deployment["spec"]["template"], len(world.revisions)
        world.settings = after
        world.restart()
        await world.run()
        assert world.deployment["spec"]["template"] == template
        assert len(world.revisions) == count
        assert world.status["outdated"] is True
        assert world.conditions["Ready"] == "True"

    async def test_counts_for_the_next_spec(self, world, after):
        await self.test_restarts_no_pod_and_says_outdated(world, after)
        world.apply(digest=samples.B)
        await world.run()
        assert "outdated" not in world.status
        assert world.conditions["Ready"] == "True"

    async def test_is_no_reason_to_leave_an_old_spec_that_comes_back(self, world, after):
        await self.test_counts_for_the_next_spec(world, after)
        world.apply(digest=samples.A)
        await world.run()
        assert world.status["outdated"] is True
        assert len(world.revisions) == 2

    async def test_rolls_out_where_the_pool_adopts_changes(self, world, after):
        world.apply(digest=samples.A)
        await world.run()
        pools = after.model_dump(mode="json", by_alias=True)["pools"]
        pools["cpu"]["adoptChanges"] = True
        world.settings = samples.settings(pools=pools)
        world.restart()
        await world.run()
        assert len(world.revisions) == 2
        assert "outdated" not in world.status
        assert world.conditions["Ready"] == "True"
        # And when that ends, the newer one stays.
        world.settings = samples.settings()
        world.restart()
        await world.run()
        assert world.status["target"]["revision"] == 2

    async def test_finds_a_spec_that_only_came_to_say_the_same_in_other_words(self, world, after):
        world.apply(digest=samples.A)
        await world.run()
        template = world.deployment["spec"]["template"]
        world.apply(runtime={"image": "registry.example/slipway-runtime:1.0"})
        await world.run()
        assert world.deployment["spec"]["template"] == template
        world.settings = after
        world.restart()
        await world.run()
        assert world.deployment["spec"]["template"] == template
        assert len(world.revisions) == 1


class TestPruning:
    async def test_the_history_is_bounded(self, world):
        world.settings = samples.settings(revisionHistoryLimit=3)
        world.restart()
        for letter in "abcdef0123":
            world.apply(digest=samples.digest(letter))
            await world.run()
        assert [r["revision"] for r in world.revisions] == [8, 9, 10]
        assert [h["revision"] for h in world.status["history"]] == [10, 9, 8]

    async def test_one_that_may_not_be_deleted_holds_nothing_up(self):
        world = World(samples.settings(revisionHistoryLimit=2))

        def before(write: Write) -> None:
            if (write.verb, write.kind) == ("delete", "ControllerRevision"):
                raise ApiError(500, "InternalError", "failed calling webhook")

        world.api.before = before
        for letter in "abcde":
            world.apply(digest=samples.digest(letter))
            await world.run()
            assert world.status["serving"]["digest"] == samples.digest(letter)
        assert len(world.revisions) == 5
        assert world.conditions["Ready"] == "True"

    async def test_the_last_good_one_stays_however_many_fail(self, world):
        world.settings = samples.settings(revisionHistoryLimit=3)
        world.restart()
        world.apply(digest=samples.A)
        await world.run()
        for letter in "bcdef012":
            world.behaviours[letter] = pods.fetch_ends(20)
            world.apply(digest=samples.digest(letter))
            await world.run()
            assert world.applied_digest == samples.A
        assert world.revisions[0]["revision"] == 1
        assert len(world.revisions) == 3

    async def test_one_whose_pods_still_run_stays(self, world):
        world.settings = samples.settings(revisionHistoryLimit=2)
        world.restart()
        world.apply(digest=samples.A, rollout={"onFailure": "Hold"})
        await world.run()
        for letter in "bcde":
            world.behaviours[letter] = pods.loading
            world.apply(digest=samples.digest(letter))
            await world.run()
        assert {r["data"]["digest"] for r in world.revisions} >= {samples.A, samples.digest("e")}

    def test_the_newest_stay_and_those_to_keep_whatever_their_age(self):
        model = samples.model()
        obj = controller_revision(model, render(model, POOL), 1)
        revisions = []
        for number in range(1, 7):
            obj["metadata"]["name"] = f"r{number}"
            revisions.append(Revision.parse({**obj, "revision": number}))
        assert surplus(tuple(revisions), {"r1"}, 3) == ("r4", "r3", "r2")
        assert surplus(tuple(revisions), {"r1", "r2", "r3", "r4"}, 2) == ("r6", "r5")


async def test_two_specs_alternating_use_two_objects_whatever_the_number_of_turns(world: World):
    for turn in range(6):
        world.apply(digest=samples.digest("ab"[turn % 2]))
        await world.run()
    assert [r["revision"] for r in world.revisions] == [5, 6]
    good = [r["metadata"]["annotations"][names.ANNOTATION_GOOD_AS] for r in world.revisions]
    assert good == ["5", "6"]


async def test_the_evidence_is_kept_where_the_status_is_not(world: World):
    world.apply(digest=samples.A)
    await world.run()
    world.behaviours["b"] = pods.fetch_ends(20, "not these bytes")
    world.apply(digest=samples.B)
    await world.run()
    recorded = json.loads(world.revisions[-1]["metadata"]["annotations"][names.ANNOTATION_EVIDENCE])
    assert recorded.pop("pod").startswith(samples.NAME)
    assert recorded == {
        "reason": "DigestMismatch",
        "class": "Intrinsic",
        "message": "not these bytes",
        "container": "fetch",
        "exitCode": 20,
        "action": "Rollback",
    }
    status = world.status
    world.change(kinds.MODEL_DEPLOYMENT, lambda m: m.update(status={}))
    await world.run()
    assert world.status["lastFailure"] == status["lastFailure"]
    assert world.status["history"] == status["history"]

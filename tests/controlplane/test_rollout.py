"""Rollouts that succeed: revisions, their ReplicaSets, and what the user is told on the way."""

from __future__ import annotations

from functools import partial

import pytest
from operator_kit import pod_status
from operator_kit.audit import AuditLog
from operator_kit.operator_process import OperatorProcess
from operator_kit.space import MODEL, Space, View

from .conftest import RecordFault


def _aims_at(digest: str, model: View) -> bool:
    return (model.status.get("target") or {}).get("digest") == digest


def _uids(pods: list[dict]) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods}


def test_a_new_digest_is_a_new_revision_and_the_old_serves_until_it_is_ready(
    operator: OperatorProcess, space: Space
) -> None:
    space.settle(replicas=2)
    space.behave("v2", pod_status.loading)
    space.apply(version="v2", replicas=2)
    rolling = space.until("rolls", lambda m: m.current and m.reason == "RollingOut")
    assert rolling.serving == space.digest("v1")
    assert rolling.status["target"]["digest"] == space.digest("v2")
    assert rolling.status["readyReplicas"] == 2
    space.behave("v2", pod_status.ready)
    done = space.until("serves it", lambda m: m.settled and m.serving == space.digest("v2"))
    assert done.status["readyReplicas"] == 2
    assert [r["revision"] for r in space.revisions()] == [1, 2]
    assert [h["outcome"] for h in done.status["history"]] == ["Good", "Good"]

    def told() -> None:
        events = space.events()
        assert [e["reason"] for e in events][-3:] == ["Serving", "RollingOut", "Serving"]
        assert {e["type"] for e in events} == {"Normal"}

    space.eventually(told)


def test_a_change_that_reaches_no_pod_replaces_no_pod(
    operator: OperatorProcess, space: Space
) -> None:
    space.settle(replicas=2)
    before = _uids(space.pods())
    rollout = {"maxSurge": 2, "progressDeadlineSeconds": 900, "onFailure": "Hold"}
    space.settle(replicas=3, rollout=rollout)
    space.until("has three pods", lambda m: m.settled and m.status["readyReplicas"] == 3)
    assert space.deployment()["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 2
    assert before < _uids(space.pods())
    assert len(space.revisions()) == 1


def test_going_back_to_an_earlier_digest_uses_its_replica_set_again(
    operator: OperatorProcess, space: Space
) -> None:
    space.settle()
    (first,) = space.replica_sets().values()
    space.settle(version="v2")
    space.settle(version="v1")
    assert len(space.replica_sets()) == 2
    (pod,) = space.pods()
    assert pod["metadata"]["ownerReferences"][0]["uid"] == first["metadata"]["uid"]
    assert [r["revision"] for r in space.revisions()] == [2, 3]
    assert space.view().status["target"]["revision"] == 3


@pytest.mark.fault("People", "spec changed again in the middle of a rollout, three times")
def test_a_spec_changed_three_times_in_the_middle_ends_at_the_last(
    operator: OperatorProcess, space: Space, record_fault: RecordFault
) -> None:
    space.settle(replicas=2)
    for version in ("v2", "v3", "v4"):
        space.behave(version, pod_status.loading)
        space.apply(version=version, replicas=2)
        aimed = partial(_aims_at, space.digest(version))
        space.until(f"aims at {version}", aimed)
        assert space.view().row[3] == "True"
    space.behave("v4", pod_status.ready)
    done = space.until("serves the last", lambda m: m.settled)
    assert done.serving == space.digest("v4")
    assert {p["metadata"]["annotations"]["slipway.dev/digest"] for p in space.pods()} == {
        space.digest("v4")
    }
    outcomes = {h["digest"]: h["outcome"] for h in done.status["history"]}
    assert outcomes[space.digest("v2")] == outcomes[space.digest("v3")] == "Pending"
    record_fault(
        reason="RollingOut",
        seen="each change is the new target at once; those left behind are neither good nor failed",
        healed="the last one is served",
    )


def test_a_spec_changed_too_fast_to_follow_ends_at_the_last(
    operator: OperatorProcess, space: Space
) -> None:
    space.settle()
    for number in range(2, 10):
        space.apply(version=f"v{number}")
    done = space.until("serves the last", lambda m: m.settled and m.serving == space.digest("v9"))
    assert done.status["readyReplicas"] == 1
    numbers = [r["revision"] for r in space.revisions()]
    assert len(set(numbers)) == len(numbers)


def test_scaling_during_a_rollout_goes_on_with_the_rollout(
    operator: OperatorProcess, space: Space
) -> None:
    space.settle(replicas=2)
    space.behave("v2", pod_status.loading)
    space.apply(version="v2", replicas=2)
    space.until("rolls", lambda m: m.reason == "RollingOut")
    space.scale(4)
    space.behave("v2", pod_status.ready)
    done = space.until(
        "serves it with four pods",
        lambda m: m.settled and m.status["readyReplicas"] == 4,
    )
    assert done.serving == space.digest("v2")
    assert len(space.revisions()) == 2


def test_a_rollout_without_surge_says_that_there_will_be_a_gap(
    operator: OperatorProcess, space: Space
) -> None:
    one_by_one = {"maxSurge": 0, "maxUnavailable": 1}
    space.settle(rollout=one_by_one)
    space.behave("v2", pod_status.fetching)
    space.apply(version="v2", rollout=one_by_one)

    def told() -> None:
        assert "RolloutWithGap" in {event["reason"] for event in space.events()}

    space.eventually(told)
    gap = space.until(
        "says so while nothing answers",
        lambda m: m.reason == "RolloutWithGap" and m.condition("Available")["status"] == "False",
    )
    assert "nothing answers until it is ready" in gap.message
    space.behave("v2", pod_status.ready)
    space.until("serves it", lambda m: m.settled and m.serving == space.digest("v2"))


@pytest.mark.fault("People", "suspended, then edited and changed")
def test_a_suspended_model_is_left_alone_until_it_goes_on(
    operator: OperatorProcess, space: Space, audit: AuditLog, record_fault: RecordFault
) -> None:
    space.settle()
    mark = audit.mark()
    space.apply(version="v2", suspend=True)
    space.until("has seen it", lambda m: m.current and m.message.startswith("spec.suspend is true"))
    space.api.delete("services", space.namespace, MODEL)
    space.api.patch("deployments", space.namespace, MODEL, {"spec": {"replicas": 2}})
    space.until("reports what is", lambda m: m.status.get("readyReplicas") == 2)
    written = {
        request.resource
        for request in audit.writes(mark, operator.credential)
        if request.namespace == space.namespace
    }
    assert written == {"modeldeployments/status"}
    assert not space.of("services")
    space.apply(version="v2")
    space.until("serves it", lambda m: m.settled and m.serving == space.digest("v2"))
    assert space.of("services")
    record_fault(
        seen="nothing but the status is written, which says so",
        healed="all is made up for when it goes on",
    )


def test_old_revisions_are_removed_but_never_the_good_one(
    operator: OperatorProcess, space: Space
) -> None:
    limit = 10
    space.settle()
    fails = pod_status.fetch_fails(21, "InvalidModel", "not ONNX")
    for number in range(2, limit + 5):
        space.behave(f"v{number}", fails)
        space.apply(version=f"v{number}")
        space.until(
            "went back",
            lambda m, wanted=number: (
                m.current
                and m.stalled == "RolledBack"
                and m.status["lastFailure"]["revision"] == wanted
            ),
        )

    def pruned() -> None:
        assert len(space.revisions()) <= limit

    space.eventually(pruned)
    kept = {revision["data"]["digest"] for revision in space.revisions()}
    assert {space.digest("v1"), space.digest(f"v{limit + 4}")} <= kept
    assert space.view().serving == space.digest("v1")

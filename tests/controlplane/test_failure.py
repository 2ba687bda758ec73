"""Rollouts that fail: what is said, what is done about it, and what is never done."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from operator_kit import pod_status
from operator_kit.audit import AuditLog
from operator_kit.eventually import always
from operator_kit.operator_process import OperatorProcess
from operator_kit.pod_status import Behaviour
from operator_kit.space import MODEL, Space, View

from .conftest import RecordFault

Json = dict[str, Any]

_TOLD = "what is wrong, where, and how to mend it"
_MISMATCH = pod_status.fetch_fails(20, "DigestMismatch", _TOLD)
_DENIED = pod_status.fetch_fails(31, "AccessDenied", _TOLD)
_SOON = {"progressDeadlineSeconds": 3}


def _serve(code: int, reason: str) -> Behaviour:
    return pod_status.serve_fails(code, restarts=1, message=pod_status.told(reason, _TOLD))


def _rolled_back(view: View) -> bool:
    return view.current and view.stalled == "RolledBack"


def _held(view: View) -> bool:
    return view.current and view.stalled == "RolloutHeld"


def _template_hash(space: Space) -> str:
    """Which ReplicaSet the Deployment asks for now, by the revision's label."""
    labels = space.deployment()["spec"]["template"]["metadata"]["labels"]
    return labels["slipway.dev/revision"]


def _uids(pods: list[Json]) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods}


# ---- intrinsic: at the first evidence ----

_INTRINSIC: dict[str, Behaviour] = {
    "DigestMismatch": _MISMATCH,
    "InvalidModel": _serve(21, "InvalidModel"),
    "UnsupportedOpset": _serve(22, "UnsupportedOpset"),
    "GoldenMismatch": _serve(23, "GoldenMismatch"),
    "TooLarge": pod_status.fetch_fails(24, "TooLarge", _TOLD),
    "WarmupFailed": _serve(25, "WarmupFailed"),
}


@pytest.mark.parametrize("reason", _INTRINSIC)
def test_what_is_wrong_with_the_artifact_is_told_and_rolled_back_within_ten_seconds(
    reason: str, operator: OperatorProcess, space: Space
) -> None:
    space.settle(replicas=2)
    pods = _uids(space.pods())
    space.behave("v2", _INTRINSIC[reason])
    space.apply(version="v2", replicas=2)
    view = space.until("went back", _rolled_back, within=10)
    assert view.reason == reason
    assert _TOLD in view.message
    assert "revision 2" in view.message
    assert "rolled back to revision 1" in view.message
    failure = view.status["lastFailure"]
    assert (failure["reason"], failure["digest"]) == (reason, space.digest("v2"))
    assert failure["message"] == _TOLD
    assert view.serving == space.digest("v1")
    assert _uids(space.pods("v1")) >= pods, "no pod of the version that serves was touched"


def test_a_rollback_applies_the_old_template_again_so_its_replica_set_serves_on(
    operator: OperatorProcess, space: Space, audit: AuditLog
) -> None:
    space.settle()
    (old,) = space.replica_sets()
    template = space.deployment()["spec"]["template"]
    space.behave("v2", _MISMATCH)
    mark = audit.mark()
    space.apply(version="v2")
    space.until("went back", _rolled_back)
    assert space.deployment()["spec"]["template"] == template
    assert _template_hash(space) == old
    assert len(space.replica_sets()) == 2

    def only_the_old_has_pods() -> None:
        assert not space.pods("v2")

    space.eventually(only_the_old_has_pods)
    # The verdict was written down before anything was done about it.
    steps = [
        request.resource
        for request in audit.writes(mark, operator.credential)
        if request.namespace == space.namespace
        and request.code < 300
        and request.resource in ("controllerrevisions", "deployments")
    ]
    assert steps[0] == "controllerrevisions"
    assert steps[-2:] == ["controllerrevisions", "deployments"]


def test_events_tell_of_the_failure(operator: OperatorProcess, space: Space) -> None:
    space.settle()
    space.behave("v2", _MISMATCH)
    space.apply(version="v2")
    space.until("went back", _rolled_back)

    def told() -> None:
        warnings = [event for event in space.events() if event["type"] == "Warning"]
        assert [event["reason"] for event in warnings][-1:] == ["RolledBack"]
        assert _TOLD in warnings[-1]["message"]

    space.eventually(told)


def test_the_artifact_is_shown_as_not_verified(operator: OperatorProcess, space: Space) -> None:
    assert space.settle().condition("ArtifactVerified")["status"] == "True"
    space.behave("v2", _MISMATCH)
    space.apply(version="v2")
    verified = space.until("went back", _rolled_back).condition("ArtifactVerified")
    assert (verified["status"], verified["reason"]) == ("False", "DigestMismatch")


def test_hold_leaves_everything_as_it_is(operator: OperatorProcess, space: Space) -> None:
    space.settle()
    space.behave("v2", _MISMATCH)
    space.apply(version="v2", rollout={"onFailure": "Hold"})
    view = space.until("is held", _held)
    assert "spec.rollout.onFailure is Hold" in view.message
    assert view.serving == space.digest("v1")
    before = space.deployment()["metadata"]["generation"]
    assert space.pods("v2"), "the failed pod can be looked at"
    always(lambda: _generation_is(space, before), lasting=1.5)


def _generation_is(space: Space, generation: int) -> None:
    assert space.deployment()["metadata"]["generation"] == generation


def test_a_held_rollout_goes_back_when_the_policy_is_changed(
    operator: OperatorProcess, space: Space
) -> None:
    space.settle()
    space.behave("v2", _MISMATCH)
    space.apply(version="v2", rollout={"onFailure": "Hold"})
    space.until("is held", _held)
    space.apply(version="v2", rollout={"onFailure": "Rollback"})
    space.until("went back", _rolled_back)

    def only_the_old_has_pods() -> None:
        assert not space.pods("v2")

    space.eventually(only_the_old_has_pods)


# ---- environmental: named at once, failed at the deadline ----

_ENVIRONMENTAL: dict[str, Behaviour] = {
    "ArtifactNotFound": pod_status.fetch_fails(30, "ArtifactNotFound", _TOLD),
    "AccessDenied": _DENIED,
    "SourceUnavailable": pod_status.fetch_fails(32, "SourceUnavailable", _TOLD, restarts=4),
    "InvalidArguments": pod_status.fetch_fails(2, "InvalidArguments", _TOLD),
    "ImagePull": pod_status.cannot_start("ImagePullBackOff", _TOLD),
    "ContainerConfig": pod_status.cannot_start("CreateContainerConfigError", _TOLD),
}


@pytest.mark.parametrize("reason", _ENVIRONMENTAL)
def test_what_is_wrong_around_the_pod_is_named_at_once_and_heals(
    reason: str, operator: OperatorProcess, space: Space
) -> None:
    space.settle()
    space.behave("v2", _ENVIRONMENTAL[reason])
    space.apply(version="v2")
    view = space.until("names it", lambda m: m.current and m.reason == reason, within=10)
    assert view.row == ("Unknown", "True", "-", "True")
    assert _TOLD in view.message
    space.behave("v2", pod_status.ready)
    space.until("serves it", lambda m: m.settled and m.serving == space.digest("v2"))


def test_a_pod_that_no_node_fits_is_named(operator: OperatorProcess, space: Space) -> None:
    space.settle()
    space.apply(version="v2", pool="nowhere")
    view = space.until("names it", lambda m: m.reason == "Unschedulable", within=10)
    assert "didn't match Pod's node affinity/selector" in view.message


@pytest.mark.parametrize("cause", ["quota", "pod security"])
def test_pods_that_may_not_be_made_are_named_with_the_words_of_admission(
    cause: str, operator: OperatorProcess, space: Space
) -> None:
    space.settle()
    if cause == "quota":
        quota = {"metadata": {"name": "one-pod"}, "spec": {"hard": {"pods": "1"}}}
        space.api.create("resourcequotas", quota, space.namespace)

        def counted() -> None:
            found = space.api.get("resourcequotas", space.namespace, "one-pod")
            assert found is not None
            assert found.get("status", {}).get("used") == {"pods": "1"}

        space.eventually(counted)
        space.apply(version="v2")
        words = "exceeded quota: one-pod"
    else:
        labels = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
        space.api.patch("namespaces", None, space.namespace, labels)
        sidecar = [_replaced_container()]
        space.api.patch("deployments", space.namespace, MODEL, sidecar, "json", manager="mesh")
        space.apply(version="v2")
        words = "violates PodSecurity"
    view = space.until("names it", lambda m: m.reason == "PodCreationDenied", within=10)
    assert words in view.message
    assert view.row == ("Unknown", "True", "-", "True")


def _replaced_container() -> Json:
    container = {"name": "root", "image": "root:1", "securityContext": {"privileged": True}}
    return {"op": "add", "path": "/spec/template/spec/containers/-", "value": container}


def test_access_denied_fails_only_at_the_deadline(operator: OperatorProcess, space: Space) -> None:
    space.settle()
    space.behave("v2", _DENIED)
    space.apply(version="v2", rollout=_SOON)
    space.until("names it", lambda m: m.current and m.reason == "AccessDenied")
    always(lambda: _not_stalled(space), lasting=1.5)
    view = space.until("went back", _rolled_back, within=10)
    assert view.reason == "AccessDenied"
    assert view.status["lastFailure"]["reason"] == "AccessDenied"


def _not_stalled(space: Space) -> None:
    assert not space.view().stalled


def test_a_rollout_without_progress_fails_at_the_deadline_whatever_the_cause(
    operator: OperatorProcess, space: Space
) -> None:
    space.settle()
    space.behave("v2", pod_status.loading)
    space.apply(version="v2", rollout=_SOON)
    view = space.until("went back", _rolled_back, within=10)
    assert view.reason == "ProgressDeadlineExceeded"
    assert "progressDeadlineSeconds (3 s)" in view.message


def test_a_source_lost_in_the_middle_holds_what_is_ready(
    operator: OperatorProcess, space: Space
) -> None:
    space.settle(replicas=2)
    space.behave("v2", pod_status.fetching)
    space.apply(version="v2", replicas=2, rollout=_SOON)

    def first_pod() -> Json:
        (pod,) = space.pods("v2")
        return pod

    first = space.eventually(first_pod)
    space.kubelet.report(first, pod_status.ready)
    space.behave("v2", _DENIED)
    view = space.until("is held", _held, within=15)
    assert view.reason == "AccessDenied"
    assert "pods of it were ready" in view.message
    assert view.row[3] == "True"
    assert first["metadata"]["uid"] in _uids(space.pods("v2")), "the ready pod stays"
    space.behave("v2", pod_status.ready)
    space.until("went on by itself", lambda m: m.settled and m.serving == space.digest("v2"))


# ---- ambiguous: after some restarts ----


@pytest.mark.parametrize(
    ("reason", "ended"),
    [
        ("OutOfMemory", {"code": 137, "container_reason": "OOMKilled"}),
        ("OutOfMemory", {"code": 41, "message": pod_status.told("OutOfMemory", _TOLD)}),
        (
            "ProviderUnavailable",
            {"code": 40, "message": pod_status.told("ProviderUnavailable", _TOLD)},
        ),
        ("Crash", {"code": 139}),
        ("Crash", {"code": 1, "message": "no JSON {"}),
    ],
    ids=["OOMKilled", "out of memory told", "provider", "segmentation fault", "unparsable"],
)
def test_what_could_be_either_fails_after_three_restarts(
    reason: str, ended: Json, operator: OperatorProcess, space: Space
) -> None:
    space.settle()
    space.behave("v2", pod_status.serve_fails(restarts=2, **ended))
    space.apply(version="v2")
    view = space.until("names it", lambda m: m.current and m.reason == reason)
    assert view.row == ("Unknown", "True", "-", "True")
    space.behave("v2", pod_status.serve_fails(restarts=3, **ended))
    view = space.until("went back", _rolled_back)
    assert view.reason == reason
    assert view.status["lastFailure"]["exitCode"] == ended["code"]


def test_out_of_memory_says_which_limit_to_raise(operator: OperatorProcess, space: Space) -> None:
    space.behave("v1", pod_status.out_of_memory(restarts=1))
    space.apply()
    view = space.until("names it", lambda m: m.reason == "OutOfMemory")
    assert "raise spec.runtime.resources.limits.memory" in view.message


# ---- the first rollout ----


@pytest.mark.parametrize(
    ("behaviour", "rollout", "while_failing"),
    [
        (_MISMATCH, {}, _held),
        (_DENIED, _SOON, _held),
        (pod_status.out_of_memory(restarts=5), {}, _held),
        (_DENIED, {}, lambda m: m.reason == "AccessDenied"),
    ],
    ids=["DigestMismatch", "AccessDenied past the deadline", "OutOfMemory", "AccessDenied"],
)
def test_a_first_rollout_never_gives_up_and_heals(
    behaviour: Behaviour,
    rollout: Json,
    while_failing: Callable[[View], bool],
    operator: OperatorProcess,
    space: Space,
) -> None:
    space.behave("v1", behaviour)
    space.apply(rollout=rollout)
    view = space.until("says what is wrong", while_failing, within=10)
    assert view.row[3] == "False"
    assert space.pods("v1"), "the pod stays and is tried again"
    space.behave("v1", pod_status.ready)
    view = space.until("is served", lambda m: m.settled)
    assert view.status["history"][0]["outcome"] == "Good"
    assert "lastFailure" not in view.status


# ---- after a failure ----


def _failed_v2(space: Space, **spec: Any) -> View:
    space.settle(**spec)
    space.behave("v2", _MISMATCH)
    space.apply(version="v2", **spec)
    return space.until("went back", _rolled_back)


def test_a_failed_revision_is_not_tried_again_by_itself(
    operator: OperatorProcess, space: Space
) -> None:
    _failed_v2(space)
    space.behave("v2", pod_status.ready)
    before = space.deployment()["metadata"]["generation"]
    always(lambda: _generation_is(space, before), lasting=1.5)
    assert _rolled_back(space.view())


@pytest.mark.fault("People", "a failed version tried again by annotation, twice")
def test_the_retry_annotation_tries_a_failed_revision_again(
    operator: OperatorProcess, space: Space, record_fault: RecordFault
) -> None:
    _failed_v2(space)
    space.apply(version="v2", annotations={"slipway.dev/retry": "1"})
    space.until(
        "failed again",
        lambda m: _rolled_back(m) and _rollouts_of_v2(space) == 2,
    )
    space.behave("v2", pod_status.ready)
    before = space.deployment()["metadata"]["generation"]
    always(lambda: _generation_is(space, before), lasting=1)
    space.apply(version="v2", annotations={"slipway.dev/retry": "2"})
    done = space.until("serves it", lambda m: m.settled and m.serving == space.digest("v2"))
    assert "lastFailure" not in done.status
    assert len(space.replica_sets()) == 2
    record_fault(
        reason="DigestMismatch",
        seen="one try for each new value of slipway.dev/retry; rolled back after the first",
        healed="the second try completed, since the artifact was mended",
    )


def _rollouts_of_v2(space: Space) -> int:
    """How often it was told that a rollout of the second version failed."""
    return sum(event["reason"] == "RolledBack" for event in space.events())


@pytest.mark.fault("People", "reverted to the good digest after a failure")
def test_a_revert_ends_the_failure(
    operator: OperatorProcess, space: Space, record_fault: RecordFault
) -> None:
    _failed_v2(space)
    pods = _uids(space.pods("v1"))
    view = space.settle(version="v1")
    assert view.serving == space.digest("v1")
    assert view.row == ("True", "-", "-", "True")
    assert _uids(space.pods("v1")) == pods
    record_fault(
        reason="Serving",
        seen="Ready again; the very same pods serve",
        healed="the failure is over with the revert",
    )


def test_a_third_version_is_rolled_out_after_a_failure(
    operator: OperatorProcess, space: Space
) -> None:
    _failed_v2(space)
    view = space.settle(version="v3")
    assert view.serving == space.digest("v3")
    assert [h["outcome"] for h in view.status["history"]] == ["Good", "Failed", "Good"]


def test_asking_again_for_what_failed_tries_it_again(
    operator: OperatorProcess, space: Space
) -> None:
    """Back to the first and to the second once more: a person means it."""
    _failed_v2(space)
    space.settle(version="v1")
    space.behave("v2", pod_status.ready)
    view = space.settle(version="v2")
    assert view.serving == space.digest("v2")


@pytest.mark.fault("People", "scaled after a failed rollout")
def test_scaling_after_a_failure_scales_what_serves_and_tries_nothing(
    operator: OperatorProcess, space: Space, record_fault: RecordFault
) -> None:
    _failed_v2(space)
    space.scale(3)
    view = space.until(
        "has three pods", lambda m: _rolled_back(m) and m.status["readyReplicas"] == 3
    )
    assert view.serving == space.digest("v1")
    assert len(space.pods("v1")) == 3
    assert not space.pods("v2")
    record_fault(
        reason="DigestMismatch",
        seen="three pods of the good version; the failed one is not tried again",
        healed="stays rolled back, at the new number",
    )


@pytest.mark.fault("People", "scaled in the middle of a rollout that fails")
def test_scaling_while_a_rollout_fails_keeps_the_new_number(
    operator: OperatorProcess, space: Space, record_fault: RecordFault
) -> None:
    space.settle(replicas=2)
    space.behave("v2", pod_status.loading)
    space.apply(version="v2", replicas=2)
    space.until("rolls", lambda m: m.reason == "RollingOut")
    space.scale(4)
    space.behave("v2", _MISMATCH)
    space.until("went back", lambda m: _rolled_back(m) and m.status["readyReplicas"] == 4)
    assert len(space.pods("v1")) == 4
    record_fault(
        reason="DigestMismatch",
        seen="rolled back with the new number of pods",
        healed="rolled back",
    )


@pytest.mark.fault("People", "status wiped after a rollback")
def test_a_wiped_status_comes_back_the_same_and_nothing_else_is_written(
    operator: OperatorProcess, space: Space, audit: AuditLog, record_fault: RecordFault
) -> None:
    _failed_v2(space)
    before = space.until("has come to rest", lambda m: m.status["replicas"] == 1).status
    generation = space.deployment()["metadata"]["generation"]
    mark = audit.mark()
    wiped = {"status": {"conditions": None, "serving": None, "history": None, "target": None,
                        "lastFailure": None, "observedGeneration": None}}  # fmt: skip
    space.api.patch("modeldeployments", space.namespace, MODEL, wiped, subresource="status")
    began = time.monotonic()
    space.until("is told again", _rolled_back)
    seconds = time.monotonic() - began

    def same() -> None:
        assert _without_times(space.view().status) == _without_times(before)

    space.eventually(same)
    assert space.deployment()["metadata"]["generation"] == generation
    written = {
        request.resource
        for request in audit.writes(mark, operator.credential)
        if request.namespace == space.namespace
    }
    assert written <= {"modeldeployments/status", "events"}
    record_fault(
        reason="DigestMismatch",
        seen="the same status again, times aside; no write but of status and Event",
        seconds=seconds,
        healed="stays rolled back: status is a report, never read",
    )


def _without_times(status: Json) -> Json:
    told = {**status, "serving": {**status["serving"], "since": None}}
    told["conditions"] = [{**c, "lastTransitionTime": None} for c in status["conditions"]]
    return told


def test_when_the_good_one_fails_too_nothing_flaps(operator: OperatorProcess, space: Space) -> None:
    _failed_v2(space)
    space.behave("v1", pod_status.out_of_memory(restarts=5))
    space.until("serves nothing", lambda m: m.row[3] == "False")
    before = space.deployment()["metadata"]["generation"]
    always(lambda: _generation_is(space, before), lasting=2)
    assert space.view().stalled == "RolledBack"
    space.behave("v1", pod_status.ready)
    space.until("serves again", lambda m: m.row[3] == "True")


def test_pods_lost_after_a_completed_rollout_are_no_failed_rollout(
    operator: OperatorProcess, space: Space
) -> None:
    space.settle(replicas=2)
    space.settle(version="v2", replicas=2)
    generation = space.deployment()["metadata"]["generation"]
    space.behave("v2", _serve(21, "InvalidModel"))
    view = space.until("serves nothing", lambda m: m.row == ("False", "True", "-", "False"))
    assert view.reason == "InvalidModel"
    always(lambda: _generation_is(space, generation), lasting=1.5)
    space.behave("v2", pod_status.ready)
    space.until("serves again", lambda m: m.settled)

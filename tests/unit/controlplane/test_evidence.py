"""What several pods say together."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from fake_cluster import pods

from slipway_operator.api.names import LABEL_MODEL
from slipway_operator.api.reasons import Reason
from slipway_operator.reconcile import kinds
from slipway_operator.reconcile.evidence import collect, strongest
from slipway_operator.reconcile.store import Store

NOW = "2026-11-21T12:00:00Z"


def pod(behaviour: pods.Behaviour) -> dict[str, Any]:
    return {"metadata": {"creationTimestamp": NOW}, "status": behaviour(NOW)}


INTRINSIC = pod(pods.fetch_ends(20))
ONE_RESTART = pod(pods.serve_ends(139, "first", restarts=1))
FOUR_RESTARTS = pod(pods.serve_ends(40, "second", restarts=4))
ENVIRONMENTAL = pod(pods.fetch_ends(31, restarts=9))
READY = pod(pods.ready)
LOADING = pod(pods.loading)


@pytest.mark.parametrize(
    ("several", "reason"),
    [
        ((READY, LOADING), None),
        ((READY, ENVIRONMENTAL), Reason.ACCESS_DENIED),
        ((ENVIRONMENTAL, ONE_RESTART), Reason.CRASH),
        ((ONE_RESTART, FOUR_RESTARTS), Reason.PROVIDER_UNAVAILABLE),
        ((ENVIRONMENTAL, FOUR_RESTARTS, INTRINSIC), Reason.DIGEST_MISMATCH),
    ],
)
def test_the_most_telling_is_shown_in_whatever_order_they_come(several, reason):
    for order in itertools.permutations(several):
        worst = strongest(collect(list(order), ()))
        assert (worst and worst.reason) == reason


@pytest.mark.parametrize(
    "message",
    [None, "", "not json", "[]", '"text"', "{}", '{"message": 7}', '{"reason": "DigestMismatch"'],
)
def test_a_termination_message_that_is_none_leaves_the_exit_code(message):
    ended = {"exitCode": 20, "reason": "Error", "message": message, "finishedAt": NOW}
    fetch = pods.container("fetch", {"terminated": ended})
    (found,) = collect([{"metadata": {}, "status": {"initContainerStatuses": [fetch]}}], ())
    assert found.reason is Reason.DIGEST_MISMATCH
    assert found.message == "container 'fetch' ended with exit code 20"


@pytest.mark.parametrize("name", ["istio-proxy", "istio-init"])
@pytest.mark.parametrize("exit_code", [2, 20, 31, 41])
def test_codes_of_containers_that_others_have_added_are_not_ours(name, exit_code):
    ended = pods.termination(exit_code, "words of its own", NOW)
    stranger = pods.container(name, {"terminated": ended})
    kind = "initContainerStatuses" if name.endswith("init") else "containerStatuses"
    (found,) = collect([{"metadata": {}, "status": {kind: [stranger]}}], ())
    assert found.reason is Reason.CRASH
    assert found.message == f"container '{name}' ended with exit code {exit_code}"


def test_why_a_container_never_ran_is_told():
    said = 'exec: "slipway-runtime": executable file not found in $PATH'
    ended = {"exitCode": 128, "reason": "StartError", "message": said, "finishedAt": NOW}
    serve = pods.container("serve", {"terminated": ended})
    (found,) = collect([{"metadata": {}, "status": {"containerStatuses": [serve]}}], ())
    assert found.reason is Reason.CRASH
    assert found.message == f"container 'serve' ended with exit code 128 (StartError): {said}"


def test_a_reason_that_says_more_than_error_is_told():
    ended = {"exitCode": 137, "reason": "ContainerStatusUnknown", "finishedAt": NOW}
    serve = pods.container("serve", {"terminated": ended})
    (found,) = collect([{"metadata": {}, "status": {"containerStatuses": [serve]}}], ())
    assert found.message == "container 'serve' ended with exit code 137 (ContainerStatusUnknown)"


def test_a_message_is_bounded():
    (found,) = collect([pod(pods.fetch_ends(20, "x" * 5000))], ())
    assert len(found.message) == 1024


@pytest.mark.parametrize("status", [{}, {"phase": "Pending"}, {"containerStatuses": []}])
def test_a_pod_that_says_nothing_yet_says_nothing(status):
    assert collect([{"metadata": {}, "status": status}], ()) == []


def test_only_serve_is_told_to_ask_for_more_memory():
    for behaviour, advised in ((pods.serve_ends, True), (pods.fetch_ends, False)):
        (found,) = collect([pod(behaviour(137, None, reason="OOMKilled"))], ())
        assert found.reason is Reason.OUT_OF_MEMORY
        assert ("limits.memory" in found.message) is advised


START, LIVE = {"periodSeconds": 1, "failureThreshold": 600}, {"periodSeconds": 10}


@pytest.mark.parametrize(
    ("probes", "ran", "reason"),
    [
        ({"startupProbe": START}, "00:09:58", Reason.OUT_OF_MEMORY),
        ({"startupProbe": START}, "00:10:01", Reason.CRASH),
        ({"startupProbe": START, "livenessProbe": LIVE}, "00:00:19", Reason.OUT_OF_MEMORY),
        ({"startupProbe": START, "livenessProbe": LIVE}, "00:00:21", Reason.CRASH),
        ({}, "09:59:59", Reason.OUT_OF_MEMORY),
    ],
)
def test_a_kill_that_no_probe_can_have_asked_for_was_the_kernels(probes, ran, reason):
    ended = {
        **pods.termination(137, None, f"2026-11-21T{ran}Z"),
        "startedAt": "2026-11-21T00:00:00Z",
    }
    serve = pods.container("serve", {"terminated": ended})
    spec = {"containers": [{"name": "sidecar", "livenessProbe": LIVE}, {"name": "serve", **probes}]}
    (found,) = collect(
        [{"metadata": {}, "spec": spec, "status": {"containerStatuses": [serve]}}], ()
    )
    assert found.reason is reason
    assert "memory" in found.message


def test_what_is_known_of_a_pod_is_enough_to_tell_whose_kill_it_was():
    store = Store()
    ended = {**pods.termination(137, None, NOW), "startedAt": NOW}
    serve = pods.container("serve", {"terminated": ended})
    metadata = {
        "name": "fraud-1",
        "namespace": "payments",
        "uid": "u",
        "resourceVersion": "7",
        "labels": {LABEL_MODEL: "fraud"},
    }
    probes = {"startupProbe": START, "livenessProbe": LIVE}
    spec = {"nodeName": "node-1", "containers": [{"name": "serve", "image": "i", **probes}]}
    status = {"containerStatuses": [serve]}
    store.put(kinds.POD, {"metadata": metadata, "spec": spec, "status": status})
    (known,) = store.get(("payments", "fraud"), kinds.POD).values()
    (found,) = collect([known], ())
    assert found.reason is Reason.OUT_OF_MEMORY


def test_a_kill_of_a_container_that_others_have_added_is_only_told():
    ended = {**pods.termination(137, None, NOW), "startedAt": NOW}
    stranger = pods.container("istio-proxy", {"terminated": ended})
    spec = {"containers": [{"name": "istio-proxy"}]}
    killed = {"metadata": {}, "spec": spec, "status": {"containerStatuses": [stranger]}}
    (found,) = collect([killed], ())
    assert found.reason is Reason.CRASH


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("UnexpectedAdmissionError", Reason.UNSCHEDULABLE),
        ("OutOfnvidia.com/gpu", Reason.UNSCHEDULABLE),
        ("NodeAffinity", Reason.UNSCHEDULABLE),
        ("Terminated", Reason.NODE_LOST),
        ("Evicted", Reason.EVICTED),
    ],
)
def test_a_pod_that_the_node_gave_up_is_told_with_the_reason_of_the_node(told, reason):
    status = {"phase": "Failed", "reason": told, "message": "no GPU"}
    (found,) = collect([{"metadata": {"name": "fraud-1"}, "status": status}], ())
    assert found.reason is reason
    assert "no GPU" in found.message
    assert told in found.message or told == "Evicted"

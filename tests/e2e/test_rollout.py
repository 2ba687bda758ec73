"""A new digest replaces the old one without a lost request, whatever happens meanwhile."""

from __future__ import annotations

import time

import pytest
from fault_record import RecordFault
from steady_checks import assert_nothing_failed, wait_for_more_answers

from slipway_dev.testbed import Artifact, Testbed, condition, is_ready
from slipway_dev.traffic import SteadyTraffic
from slipway_dev.wait import wait_until


def test_a_digest_change_under_load_loses_no_request(
    testbed: Testbed,
    namespace: str,
    versions: tuple[Artifact, Artifact],
    traffic: SteadyTraffic,
    request: pytest.FixtureRequest,
) -> None:
    for turn in range(1, 5):
        wanted = versions[turn % 2]
        testbed.apply(testbed.model(namespace, "linear", wanted, replicas=2))
        testbed.wait_for(namespace, "linear", "rolled out", is_ready)
        wait_for_more_answers(traffic, wanted, 100)

    # The last pods of the version before are still draining: let them finish under load.
    wait_until(
        "the old pods are gone",
        lambda: None if len(pods(testbed, namespace)) == 2 else str(pods(testbed, namespace)),
        60,
    )
    assert_nothing_failed(traffic.tally, request)


def pods(testbed: Testbed, namespace: str) -> list[str]:
    return testbed.cluster.kubectl("get", "pods", "-n", namespace, "-o", "name").stdout.split()


def test_the_answers_change_with_the_digest(
    testbed: Testbed,
    namespace: str,
    versions: tuple[Artifact, Artifact],
    traffic: SteadyTraffic,
) -> None:
    testbed.apply(testbed.model(namespace, "linear", versions[1], replicas=2))
    model = testbed.wait_for(namespace, "linear", "rolled out", is_ready)

    assert model["status"]["serving"]["digest"] == versions[1].digest
    assert [entry["outcome"] for entry in model["status"]["history"]] == ["Good", "Good"]


@pytest.mark.fault("Cluster", "under load: kube-proxy hears ten seconds late of a rollout")
def test_a_proxy_that_hears_late_of_a_rollout_costs_no_request(
    testbed: Testbed,
    namespace: str,
    versions: tuple[Artifact, Artifact],
    traffic: SteadyTraffic,
    request: pytest.FixtureRequest,
    record_fault: RecordFault,
) -> None:
    """Old pods that are ending still get new connections, for longer than the drain delay."""
    old, new = versions

    def ending() -> bool:
        listed = testbed.cluster.get("pods", "-n", namespace)["items"]
        return any("deletionTimestamp" in pod["metadata"] for pod in listed)

    testbed.cluster.pause("kube-proxy")
    try:
        testbed.apply(testbed.model(namespace, "linear", new, replicas=2))
        wait_until("an old pod ends", lambda: None if ending() else "none does", 60)
        # Ten seconds' worth of requests, all of which go to pods that end.
        wait_for_more_answers(traffic, old, 1000)
    finally:
        testbed.cluster.resume("kube-proxy")
    testbed.wait_for(namespace, "linear", "rolled out", is_ready)
    wait_for_more_answers(traffic, new)
    tally = traffic.tally
    assert_nothing_failed(tally, request)
    record_fault(
        reason="RollingOut",
        seen="pods that are to end serve on for as long as connections come to them",
        sent=tally.sent,
        failed=tally.failed,
        healed="by itself: the rollout completed",
    )


def test_a_deleted_pod_is_replaced_and_no_request_is_lost(
    testbed: Testbed,
    namespace: str,
    versions: tuple[Artifact, Artifact],
    traffic: SteadyTraffic,
    request: pytest.FixtureRequest,
) -> None:
    victim = pods(testbed, namespace)[0]
    testbed.cluster.kubectl("delete", victim, "-n", namespace)

    testbed.wait_for(
        namespace, "linear", "two ready pods", lambda m: m["status"]["readyReplicas"] == 2
    )
    assert victim not in pods(testbed, namespace)
    assert_nothing_failed(traffic.tally, request)


def test_a_model_whose_last_pod_was_killed_says_so_and_comes_back(
    testbed: Testbed, namespace: str, versions: tuple[Artifact, Artifact]
) -> None:
    testbed.apply(testbed.model(namespace, "linear", versions[0]))
    testbed.wait_for(namespace, "linear", "ready", is_ready)
    testbed.cluster.kubectl(
        "delete", *pods(testbed, namespace), "-n", namespace, "--grace-period=0", "--force"
    )

    lost = testbed.wait_for(
        namespace, "linear", "told", lambda m: condition(m, "Available")["status"] == "False"
    )
    assert condition(lost, "Reconciling")["status"] == "True"
    testbed.wait_for(namespace, "linear", "ready again", is_ready)


def test_a_model_that_is_deleted_leaves_nothing(
    testbed: Testbed, namespace: str, versions: tuple[Artifact, Artifact]
) -> None:
    testbed.apply(testbed.model(namespace, "linear", versions[0]))
    testbed.wait_for(namespace, "linear", "ready", is_ready)
    testbed.cluster.kubectl("delete", "mdep", "linear", "-n", namespace)

    def left() -> str | None:
        kinds = "deployments,replicasets,pods,services,controllerrevisions"
        listed = testbed.cluster.kubectl("get", kinds, "-n", namespace, "-o", "name").stdout
        return listed or None

    began = time.monotonic()
    wait_until("everything is gone", left, 60)
    assert time.monotonic() - began < 60

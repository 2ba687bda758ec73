"""A new digest replaces the old one without a lost request, whatever happens meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from fault_record import RecordFault
from runtime_kit import onnx_models

from slipway_dev.testbed import OPERATOR_NAMESPACE, Artifact, Testbed, condition, is_ready
from slipway_dev.traffic import SteadyTraffic, Tally
from slipway_dev.wait import wait_until

BODY = json.dumps({"x": [[1.0, 2.0, 3.0, 4.0]]}).encode()


@pytest.fixture
def versions(testbed: Testbed) -> tuple[Artifact, Artifact]:
    return (
        testbed.upload("rollout/v1.onnx", onnx_models.linear(bias=1.0)),
        testbed.upload("rollout/v2.onnx", onnx_models.linear(bias=2.0)),
    )


@pytest.fixture
def traffic(
    testbed: Testbed, namespace: str, versions: tuple[Artifact, Artifact]
) -> Iterator[SteadyTraffic]:
    testbed.apply(testbed.model(namespace, "linear", versions[0], replicas=2))
    testbed.wait_for(namespace, "linear", "ready", is_ready)
    address = testbed.service_address(namespace, "linear")
    with SteadyTraffic(address, "/predict", BODY, clients=4, rate=100) as traffic:
        wait_for_answers(traffic, versions[0], 50)
        yield traffic


def wait_for_answers(traffic: SteadyTraffic, artifact: Artifact, count: int) -> None:
    wait_until(
        f"{count} answers by {artifact.digest}",
        lambda: None if traffic.tally.by_digest[artifact.digest] >= count else str(traffic.tally),
        30,
    )


def assert_nothing_failed(tally: Tally, request: pytest.FixtureRequest) -> None:
    request.node.user_properties.append(("requests", f"{tally.sent} sent, {tally.failed} failed"))
    print(f"{tally.sent} requests sent, {tally.failed} failed: {dict(tally.failures)}")
    assert tally.sent > 100
    assert not tally.failures, str(tally)


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
        before = traffic.tally.by_digest[wanted.digest]
        wait_for_answers(traffic, wanted, before + 100)

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


@pytest.mark.fault("Operator", "under load: killed in the middle of a rollout")
def test_a_killed_operator_finishes_the_rollout_when_it_is_back(
    testbed: Testbed,
    namespace: str,
    versions: tuple[Artifact, Artifact],
    traffic: SteadyTraffic,
    request: pytest.FixtureRequest,
    record_fault: RecordFault,
) -> None:
    testbed.apply(testbed.model(namespace, "linear", versions[1], replicas=2))
    testbed.wait_for(
        namespace,
        "linear",
        "rolling",
        lambda m: condition(m, "Reconciling").get("status") == "True",
    )
    testbed.cluster.kubectl(
        "delete", "pod", "-n", OPERATOR_NAMESPACE, "-l", "app.kubernetes.io/name=slipway",
        "--grace-period=0", "--force",
    )  # fmt: skip

    testbed.wait_for(namespace, "linear", "rolled out", is_ready, timeout=120)
    wait_for_answers(traffic, versions[1], 50)
    tally = traffic.tally
    assert_nothing_failed(tally, request)
    record_fault(
        reason="RollingOut",
        seen="Kubernetes goes on with the rollout that was begun; pods answer as before",
        sent=tally.sent,
        failed=tally.failed,
        healed="the next operator completed the rollout",
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

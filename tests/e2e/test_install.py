"""Installing, upgrading and removing the operator never disturbs the models that it serves."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from leading_pod import holder, wait_for_a_leader
from requests_to_model import send
from runtime_kit import onnx_models

from slipway_dev import paths
from slipway_dev.testbed import OPERATOR_NAMESPACE, RELEASE, Testbed, is_ready
from slipway_dev.wait import wait_until

CHART = str(paths.repository() / "charts" / "slipway")
X, Y = [[1.0, 2.0, 3.0, 4.0]], [[41.0, 51.0]]


@pytest.fixture
def served(testbed: Testbed, namespace: str) -> Iterator[str]:
    artifact = testbed.upload("install/v1.onnx", onnx_models.linear())
    testbed.apply(testbed.model(namespace, "linear", artifact))
    testbed.wait_for(namespace, "linear", "ready", is_ready)
    yield "linear"
    testbed.install_operator()


def pod_uids(testbed: Testbed, namespace: str) -> list[str]:
    listed = testbed.cluster.get("pods", "-n", namespace)["items"]
    return sorted(pod["metadata"]["uid"] for pod in listed)


def test_an_upgrade_with_another_pool_profile_restarts_no_model(
    testbed: Testbed, namespace: str, served: str
) -> None:
    before = pod_uids(testbed, namespace)

    testbed.install_operator({"pools": {"cpu": {"drainDelaySeconds": 7}}})

    model = testbed.wait_for(
        namespace, served, "called outdated", lambda m: m["status"].get("outdated") is True
    )
    assert is_ready(model)
    assert pod_uids(testbed, namespace) == before


def test_a_pool_that_adopts_changes_rolls_them_out(
    testbed: Testbed, namespace: str, served: str
) -> None:
    before = pod_uids(testbed, namespace)

    testbed.install_operator({"pools": {"cpu": {"drainDelaySeconds": 6, "adoptChanges": True}}})

    testbed.wait_for(
        namespace,
        served,
        "on a second revision",
        lambda m: is_ready(m) and m["status"]["serving"]["revision"] == 2,
    )
    wait_until(
        "only new pods",
        lambda: None if not set(before) & set(pod_uids(testbed, namespace)) else "old pods left",
        60,
    )


def test_uninstalling_leaves_models_and_their_definitions_serving(
    testbed: Testbed, namespace: str, served: str
) -> None:
    before = pod_uids(testbed, namespace)
    address = testbed.service_address(namespace, served)

    testbed.helm("uninstall", RELEASE, f"--namespace={OPERATOR_NAMESPACE}", "--wait")

    assert address == testbed.service_address(namespace, served)
    assert send(testbed, namespace, served, "POST", "/predict", X).json == {"y": Y}
    testbed.install_operator()
    # Taken over as it is: the same pods, and the operator in charge of them again.
    testbed.cluster.kubectl("scale", f"mdep/{served}", "-n", namespace, "--replicas=2")
    testbed.wait_for(
        namespace, served, "scaled", lambda m: m["status"]["readyReplicas"] == 2 and is_ready(m)
    )
    assert set(before) < set(pod_uids(testbed, namespace))


def test_two_operators_take_turns(testbed: Testbed, namespace: str, served: str) -> None:
    testbed.install_operator({"replicas": 2})

    leader = wait_for_a_leader(testbed)
    testbed.cluster.kubectl("delete", "pod", leader, "-n", OPERATOR_NAMESPACE)

    testbed.cluster.kubectl("scale", f"mdep/{served}", "-n", namespace, "--replicas=2")
    testbed.wait_for(namespace, served, "scaled", lambda m: m["status"]["readyReplicas"] == 2)
    assert holder(testbed) not in ("", leader)


def test_the_api_server_accepts_everything_that_the_chart_renders(testbed: Testbed) -> None:
    rendered = testbed.helm("template", RELEASE, CHART, f"--namespace={OPERATOR_NAMESPACE}")

    shown = testbed.cluster.kubectl(
        "apply", "--dry-run=server", "-n", OPERATOR_NAMESPACE, "-f", "-", input=rendered
    ).stdout

    assert "deployment.apps/slipway" in shown
    assert "customresourcedefinition.apiextensions.k8s.io/modeldeployments.slipway.dev" in shown


def test_the_operator_may_not_read_secrets(testbed: Testbed) -> None:
    account = f"system:serviceaccount:{OPERATOR_NAMESPACE}:slipway"

    def may(verb: str, resource: str) -> str:
        return testbed.cluster.kubectl(
            "auth", "can-i", verb, resource, f"--as={account}", "-A", check=False
        ).stdout.strip()

    assert may("create", "deployments.apps") == "yes"
    assert may("get", "secrets") == "no"
    assert may("list", "secrets") == "no"
    assert may("*", "*") == "no"


def test_the_operators_pod_keeps_to_the_restricted_profile(testbed: Testbed) -> None:
    enforced = json.dumps(
        {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    )

    said = testbed.cluster.kubectl(
        "patch", "namespace", OPERATOR_NAMESPACE, "--dry-run=server", "-p", enforced
    )

    assert "violate" not in said.stderr.lower()

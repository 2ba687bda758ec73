"""What can be wrong with an artifact: the status says it, and the old version goes on serving."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from runtime_kit import onnx_models

from slipway_dev.testbed import Artifact, Testbed, condition, is_ready, is_stalled
from slipway_dev.traffic import SteadyTraffic
from slipway_dev.wait import wait_until

BODY = json.dumps({"x": [[1.0, 2.0, 3.0, 4.0]]}).encode()
INTRINSIC_SECONDS = 10
DEADLINE_SECONDS = 15


def wrong_digest(testbed: Testbed) -> Artifact:
    good = testbed.upload("faults/good.onnx", onnx_models.linear(bias=5.0))
    return Artifact(good.uri, "sha256:" + "0" * 64)


def missing_object(testbed: Testbed) -> Artifact:
    return Artifact("s3://models/faults/nowhere.onnx", "sha256:" + "1" * 64)


def denied_access(testbed: Testbed) -> Artifact:
    client = testbed.s3.root_client()
    if "private" not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket="private")
    client.put_object(Bucket="private", Key="model.onnx", Body=onnx_models.linear())
    return Artifact("s3://private/model.onnx", "sha256:" + "2" * 64)


def corrupt_model(testbed: Testbed) -> Artifact:
    return testbed.upload("faults/corrupt.onnx", onnx_models.linear()[:-40] + b"\xff" * 40)


def refused_model(testbed: Testbed) -> Artifact:
    return testbed.upload("faults/refused.onnx", onnx_models.unknown_operator())


def future_opset(testbed: Testbed) -> Artifact:
    return testbed.upload("faults/opset.onnx", onnx_models.linear(opset=99))


def fails_its_warm_up(testbed: Testbed) -> Artifact:
    return testbed.upload("faults/warmup.onnx", onnx_models.fails_when_warm())


@dataclass(frozen=True)
class Fault:
    make: Callable[[Testbed], Artifact]
    reason: str
    container: str
    exit_code: int
    told: str
    intrinsic: bool = True


FAULTS = [
    Fault(wrong_digest, "DigestMismatch", "fetch", 20, "expected sha256:0000"),
    Fault(corrupt_model, "InvalidModel", "serve", 21, ""),
    Fault(refused_model, "InvalidModel", "serve", 21, "NoSuchOperator"),
    Fault(future_opset, "UnsupportedOpset", "serve", 22, "99"),
    Fault(fails_its_warm_up, "WarmupFailed", "serve", 25, ""),
    Fault(missing_object, "ArtifactNotFound", "fetch", 30, "faults/nowhere.onnx", intrinsic=False),
    Fault(denied_access, "AccessDenied", "fetch", 31, "private", intrinsic=False),
]
BY_NAME = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.make.__name__)


def names_reason(fault: Fault) -> Callable[[dict[str, Any]], bool]:
    return lambda model: condition(model, "Ready").get("reason") == fault.reason


@BY_NAME
def test_a_bad_version_is_told_and_the_old_one_serves_on(
    testbed: Testbed, namespace: str, fault: Fault
) -> None:
    good = testbed.upload("faults/v1.onnx", onnx_models.linear())
    rollout = {"progressDeadlineSeconds": DEADLINE_SECONDS}
    testbed.apply(testbed.model(namespace, "linear", good, rollout=rollout))
    testbed.wait_for(namespace, "linear", "ready", is_ready)
    template = testbed.cluster.get("deployment", "linear", "-n", namespace)["spec"]["template"]
    bad = fault.make(testbed)
    address = testbed.service_address(namespace, "linear")

    with SteadyTraffic(address, "/predict", BODY, clients=2, rate=50) as traffic:
        began = time.monotonic()
        testbed.apply(testbed.model(namespace, "linear", bad, rollout=rollout))
        testbed.wait_for(namespace, "linear", "told", names_reason(fault), INTRINSIC_SECONDS)
        seconds = time.monotonic() - began
        failed = testbed.wait_for(namespace, "linear", "failed", is_stalled, timeout=60)
        answered = traffic.tally.sent
        wait_until(
            "more answers",
            lambda: None if traffic.tally.sent >= answered + 50 else str(traffic.tally),
            30,
        )
    tally = traffic.tally

    print(f"{fault.reason} told after {seconds:.1f} s; {tally.sent} sent, {tally.failed} failed")
    assert not tally.failures
    assert set(tally.by_digest) == {good.digest}
    failure = failed["status"]["lastFailure"]
    assert (failure["reason"], failure["container"], failure["exitCode"]) == (
        fault.reason,
        fault.container,
        fault.exit_code,
    )
    assert fault.told in failure["message"]
    assert "Traceback" not in failure["message"]
    assert failed["status"]["serving"]["digest"] == good.digest
    assert failed["status"]["target"]["digest"] == bad.digest
    assert condition(failed, "Stalled")["reason"] == "RolledBack"
    assert condition(failed, "Available")["status"] == "True"
    back = testbed.cluster.get("deployment", "linear", "-n", namespace)["spec"]["template"]
    assert back == template
    events = testbed.cluster.get("events", "-n", namespace)["items"]
    about = [e for e in events if e["involvedObject"]["kind"] == "ModelDeployment"]
    assert any(e["reason"] == "RolledBack" and fault.told in e["message"] for e in about)


def test_the_first_version_of_a_model_waits_for_its_artifact_and_heals(
    testbed: Testbed, namespace: str
) -> None:
    content = onnx_models.linear(bias=9.0)
    artifact = testbed.upload("faults/late.onnx", content)
    testbed.s3.root_client().delete_object(Bucket="models", Key="faults/late.onnx")
    testbed.apply(testbed.model(namespace, "linear", artifact))
    waiting = testbed.wait_for(
        namespace,
        "linear",
        "told that it is missing",
        lambda m: condition(m, "Ready").get("reason") == "ArtifactNotFound",
        INTRINSIC_SECONDS,
    )
    assert condition(waiting, "Reconciling")["status"] == "True"

    testbed.upload("faults/late.onnx", content)

    testbed.wait_for(namespace, "linear", "healed", is_ready, timeout=90)


def test_a_model_larger_than_its_cache_is_told_by_the_field_to_raise(
    testbed: Testbed, namespace: str
) -> None:
    artifact = testbed.upload("faults/large.onnx", b"\0" * (3 << 20))
    testbed.apply(testbed.model(namespace, "linear", artifact, runtime={"cacheSize": "2Mi"}))

    told = testbed.wait_for(namespace, "linear", "told", is_stalled, INTRINSIC_SECONDS)
    assert condition(told, "Ready")["reason"] == "TooLarge"
    assert "spec.runtime.cacheSize" in condition(told, "Ready")["message"]


def test_a_missing_secret_is_named(testbed: Testbed, namespace: str) -> None:
    artifact = testbed.upload("faults/v1.onnx", onnx_models.linear())
    model = testbed.model(namespace, "linear", artifact)
    model["spec"]["model"]["storage"]["secretName"] = "not-there"
    testbed.apply(model)

    told = testbed.wait_for(
        namespace,
        "linear",
        "told",
        lambda m: condition(m, "Ready").get("reason") == "ContainerConfig",
        INTRINSIC_SECONDS,
    )
    assert "not-there" in condition(told, "Ready")["message"]


def test_a_gpu_pool_without_a_gpu_behind_it_never_gets_ready(
    testbed: Testbed, namespace: str
) -> None:
    node, resource = testbed.cluster.node_name, "nvidia.com~1gpu"
    patch = [{"op": "add", "path": f"/status/capacity/{resource}", "value": "1"}]
    testbed.cluster.kubectl(
        "patch", "node", node, "--subresource=status", "--type=json", "-p", json.dumps(patch)
    )
    try:
        wait_until(
            "the node offers a GPU",
            lambda: (
                None
                if testbed.cluster.get("node", node)["status"]["allocatable"].get("nvidia.com/gpu")
                else "not allocatable yet"
            ),
            60,
        )
        artifact = testbed.upload("faults/v1.onnx", onnx_models.linear())
        testbed.apply(testbed.model(namespace, "linear", artifact, pool="gpu"))

        def given_up(model: dict[str, Any]) -> bool:
            assert not model.get("status", {}).get("readyReplicas")
            return is_stalled(model)

        testbed.wait_for(
            namespace,
            "linear",
            "told",
            lambda m: condition(m, "Ready").get("reason") == "ProviderUnavailable",
            20,
        )
        model = testbed.wait_for(namespace, "linear", "given up", given_up, timeout=120)
        assert "CUDAExecutionProvider" in condition(model, "Ready")["message"]
        assert condition(model, "Stalled")["reason"] == "RolloutHeld"
    finally:
        patch[0] = {"op": "remove", "path": f"/status/capacity/{resource}"}
        testbed.cluster.kubectl(
            "patch", "node", node, "--subresource=status", "--type=json", "-p", json.dumps(patch)
        )


def test_an_unknown_pool_is_refused_with_those_that_exist(testbed: Testbed, namespace: str) -> None:
    artifact = testbed.upload("faults/v1.onnx", onnx_models.linear())
    testbed.apply(testbed.model(namespace, "linear", artifact, pool="tpu"))

    model = testbed.wait_for(namespace, "linear", "told", is_stalled, INTRINSIC_SECONDS)
    message = condition(model, "Ready")["message"]
    assert "tpu" in message
    assert "cpu, gpu" in message

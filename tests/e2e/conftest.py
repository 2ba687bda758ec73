"""One real cluster for all end-to-end tests; each test gets a namespace of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from e2e_types import Installed
from runtime_kit import onnx_models
from steady_checks import wait_for_answers

from slipway_dev.testbed import OPERATOR_NAMESPACE, Artifact, Testbed, is_ready
from slipway_dev.traffic import SteadyTraffic

# An ambiguous failure is told apart after two restarts, which the kubelet delays by 10 and 20 s.
VALUES = {"controller": {"ambiguousRestarts": 2, "fetchProgress": True}}
BODY = json.dumps({"x": [[1.0, 2.0, 3.0, 4.0]]}).encode()


@pytest.fixture(scope="session")
def installed() -> Iterator[Installed]:
    testbed = Testbed("e2e")
    testbed.down()  # What a run that was killed has left.
    try:
        yield Installed(testbed, testbed.up(VALUES))
    finally:
        testbed.down()


@pytest.fixture
def testbed(installed: Installed) -> Testbed:
    return installed.testbed


@pytest.fixture
def namespace(testbed: Testbed, request: pytest.FixtureRequest) -> Iterator[str]:
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    name = f"t-{words}"[:60].strip("-")
    testbed.create_namespace(name)
    yield name
    testbed.cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def versions(testbed: Testbed) -> tuple[Artifact, Artifact]:
    """Two good versions of one model."""
    return (
        testbed.upload("rollout/v1.onnx", onnx_models.linear(bias=1.0)),
        testbed.upload("rollout/v2.onnx", onnx_models.linear(bias=2.0)),
    )


@pytest.fixture
def traffic(
    testbed: Testbed, namespace: str, versions: tuple[Artifact, Artifact]
) -> Iterator[SteadyTraffic]:
    """Steady requests to the first version, served by two pods."""
    testbed.apply(testbed.model(namespace, "linear", versions[0], replicas=2))
    testbed.wait_for(namespace, "linear", "ready", is_ready)
    address = testbed.service_address(namespace, "linear")
    with SteadyTraffic(address, "/predict", BODY, clients=4, rate=100) as traffic:
        wait_for_answers(traffic, versions[0], 50)
        yield traffic


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Show with a failure what a person would look at first."""
    report = yield
    arguments = getattr(item, "funcargs", {})
    if report.when == "call" and report.failed and "namespace" in arguments:
        testbed, namespace = arguments["testbed"], arguments["namespace"]
        for title, command in {
            "models and pods": ("get", "mdep,deploy,rs,pods", "-n", namespace, "-o", "wide"),
            "events": ("get", "events", "-n", namespace, "--sort-by=.lastTimestamp"),
            "operator": ("logs", "-n", OPERATOR_NAMESPACE, "deployment/slipway", "--tail=30"),
        }.items():
            shown = testbed.cluster.kubectl(*command, check=False)
            report.sections.append((title, shown.stdout + shown.stderr))
    return report

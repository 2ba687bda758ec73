"""One real cluster for all end-to-end tests; each test gets a namespace of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from e2e_types import Installed

from slipway_dev.testbed import OPERATOR_NAMESPACE, Testbed

# An ambiguous failure is told apart after two restarts, which the kubelet delays by 10 and 20 s.
VALUES = {"controller": {"ambiguousRestarts": 2, "fetchProgress": True}}


@pytest.fixture(scope="session")
def installed() -> Iterator[Installed]:
    testbed = Testbed("e2e")
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

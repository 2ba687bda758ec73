"""Several operators in one cluster, each with the ModelDeployments that its selector names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from operator_kit.api import Api
from operator_kit.audit import AuditLog
from operator_kit.fake_kubelet import FakeKubelet
from operator_kit.installation import NAMESPACE, Installation
from operator_kit.operator_process import OperatorProcess
from operator_kit.space import Space

from slipway_dev.cluster import Cluster

LABEL = "example.com/operator"
Pair = dict[str, OperatorProcess]


@pytest.fixture
def pair(
    cluster: Cluster, api: Api, installation: Installation, kubelet: FakeKubelet, tmp_path: Path
) -> Iterator[Pair]:
    """Two releases of the chart; `green` would build other pods than `blue`."""
    running: Pair = {}
    for name in ("blue", "green"):
        key = LABEL.replace(".", r"\.")
        release = Installation(
            cluster,
            api,
            f"fullnameOverride={name}",
            f"watch.selector.matchLabels.{key}={name}",
            f"pools.cpu.drainDelaySeconds={len(name)}",
        )
        release.grant()
        running[name] = OperatorProcess(release, tmp_path, name).start()
    for process in running.values():
        process.until_leading()
    yield running
    for name, process in running.items():
        process.kill()
        api.delete("leases", NAMESPACE, name)


def give(space: Space, operator: str, name: str) -> None:
    patch = {"metadata": {"labels": {LABEL: operator}}}
    space.api.patch("modeldeployments", space.namespace, name, patch)


def test_each_serves_its_own_and_a_changed_label_hands_a_model_over_without_a_dip(
    pair: Pair, space: Space, audit: AuditLog
) -> None:
    mark = audit.mark()
    for name in ("blue", "green", "nobody"):
        space.apply(name, name, replicas=2)
        give(space, name, name)
    for name in ("blue", "green"):
        space.until("is served", lambda m: m.settled, name)
    assert space.view("nobody").row == ("-", "-", "-", "-")

    def wrote(operator: str) -> set[str]:
        written = audit.writes(mark, pair[operator].credential)
        return {r.name.split("-")[0] for r in written if r.namespace == space.namespace} - {""}

    assert {name.partition(".")[0] for name in wrote("blue")} == {"blue"}
    assert {name.partition(".")[0] for name in wrote("green")} == {"green"}

    before = {pod["metadata"]["uid"] for pod in space.pods(name="blue")}
    mark = audit.mark()
    give(space, "green", "blue")
    space.until("is green's", lambda m: m.status.get("outdated") is True, "blue")
    space.scale(3, "blue")
    view = space.until("has three", lambda m: m.status.get("readyReplicas") == 3, "blue", within=30)
    assert view.condition("Available")["status"] == "True"
    assert before < {pod["metadata"]["uid"] for pod in space.pods(name="blue")}
    assert len(space.revisions("blue")) == 1
    assert not [str(r) for r in audit.writes(mark, pair["blue"].credential)]

    give(space, "blue", "blue")
    space.scale(2, "blue")
    space.until("is blue's again", lambda m: "outdated" not in m.status, "blue", within=30)
    space.until("has two", lambda m: m.status.get("readyReplicas") == 2, "blue", within=30)


def test_each_has_a_lease_of_its_own(pair: Pair, space: Space) -> None:
    held = {
        lease["metadata"]["name"]: lease["spec"]["holderIdentity"]
        for lease in space.api.list("leases", NAMESPACE)
    }
    assert held["blue"]
    assert held["green"]
    assert held["blue"] != held["green"]

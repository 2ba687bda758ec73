"""What the status of a pod does not tell: a volume that cannot be mounted, a node that is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from fault_record import RecordFault
from operator_kit import pod_status
from operator_kit.api import Api
from operator_kit.audit import AuditLog
from operator_kit.fake_kubelet import FakeKubelet
from operator_kit.operator_process import OperatorProcess
from operator_kit.space import Space

MISSING = 'MountVolume.SetUp failed for volume "ca-bundle" : configmap "corp-ca" not found'
LOST_NODE = "node-that-is-lost"
LABEL = "slipway.dev/test-node"


def _tell(space: Space, pod: dict, message: str) -> None:
    metadata = pod["metadata"]
    space.api.create(
        "events",
        {
            "metadata": {"generateName": f"{metadata['name']}."},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": metadata["name"],
                "namespace": space.namespace,
                "uid": metadata["uid"],
            },
            "type": "Warning",
            "reason": "FailedMount",
            "message": message,
            "source": {"component": "kubelet"},
            "firstTimestamp": pod_status.now(),
            "lastTimestamp": pod_status.now(),
        },
        space.namespace,
    )


def test_a_volume_that_cannot_be_mounted_is_told_and_heals(
    operator: OperatorProcess, space: Space, audit: AuditLog
) -> None:
    space.behave("v1", pod_status.creating)
    space.apply()

    def created() -> dict:
        (pod,) = space.pods("v1")
        assert pod["spec"].get("nodeName")
        return pod

    pod = space.eventually(created)
    mark = audit.mark()
    _tell(space, pod, MISSING)
    view = space.until("tells it", lambda m: m.reason == "VolumeMount", within=20)
    assert 'configmap "corp-ca" not found' in view.message
    assert view.condition("Reconciling")["status"] == "True"
    read = [
        request
        for request in audit.since(mark, operator.credential)
        if (request.resource, request.verb) == ("events", "list")
    ]
    assert 1 <= len(read) <= 3
    space.behave("v1", pod_status.ready)
    space.until("is served", lambda m: m.settled)


@pytest.fixture
def lost_node(api: Api) -> Iterator[FakeKubelet]:
    """A second node, whose kubelet the test may let die."""
    kubelet = FakeKubelet(api, LOST_NODE)
    kubelet.start()
    api.patch("nodes", None, LOST_NODE, {"metadata": {"labels": {LABEL: "lost"}}})
    yield kubelet
    kubelet.stop()
    for pod in api.list("pods", fieldSelector=f"spec.nodeName={LOST_NODE}"):
        metadata = pod["metadata"]
        api.delete("pods", metadata["namespace"], metadata["name"], gracePeriodSeconds=0)
    api.delete("nodes", None, LOST_NODE)


@pytest.mark.fault("Cluster", "node lost")
def test_a_lost_node_is_told_once_kubernetes_has_noticed(
    operator: OperatorProcess, space: Space, lost_node: FakeKubelet, record_fault: RecordFault
) -> None:
    space.settle(template={"nodeSelector": {LABEL: "lost"}})
    lost_node.stop()
    began = time.monotonic()
    # The node controller waits for 50 s before it calls a silent node lost.
    view = space.until("tells it", lambda m: m.reason == "NodeLost", within=90)
    seconds = time.monotonic() - began
    assert f"the node '{LOST_NODE}' no longer reports" in view.message
    assert view.condition("Available")["status"] == "False"
    assert view.condition("Ready")["status"] == "False"
    assert not view.stalled
    record_fault(
        reason=view.reason,
        seen=view.message,
        seconds=seconds,
        healed="the pod is replaced when Kubernetes gives the node up, or counts again when it is "
        "back; Kubernetes waits 50 s before it tells",
    )

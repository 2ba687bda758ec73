"""What is changed by hand comes back as it was, and what belongs to others stays theirs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from operator_kit import pod_status
from operator_kit.audit import AuditLog
from operator_kit.operator_process import OperatorProcess
from operator_kit.space import MODEL, Space

from slipway_dev.cluster import Cluster

from .conftest import RecordFault

Json = dict[str, Any]

_SERVE = "/spec/template/spec/containers/0"


def _replaced(where: str, value: Any) -> Json:
    return {"op": "replace", "path": where, "value": value}


# Changes to the Deployment, as JSON patches.
_EDITS: dict[str, list[Json]] = {
    "an environment variable": [_replaced(f"{_SERVE}/env/0/value", "/elsewhere")],
    "an environment variable removed": [{"op": "remove", "path": f"{_SERVE}/env/0"}],
    "the image": [_replaced(f"{_SERVE}/image", "nginx:latest")],
    "a probe": [_replaced(f"{_SERVE}/readinessProbe/httpGet/path", "/")],
    "a probe removed": [{"op": "remove", "path": f"{_SERVE}/livenessProbe"}],
    "the digest that is served": [_replaced(f"{_SERVE}/args/2", "sha256:" + "0" * 64)],
    "a resource limit": [_replaced(f"{_SERVE}/resources/limits/memory", "8Gi")],
    "the security context": [_replaced(f"{_SERVE}/securityContext/allowPrivilegeEscalation", True)],
    "the replicas": [_replaced("/spec/replicas", 5)],
    "the surge": [_replaced("/spec/strategy/rollingUpdate/maxSurge", 7)],
    "a paused rollout": [{"op": "add", "path": "/spec/paused", "value": True}],
    "a label removed": [{"op": "remove", "path": "/metadata/labels/slipway.dev~1model"}],
    "a pod label changed": [_replaced("/spec/template/metadata/labels/slipway.dev~1pool", "gpu")],
}


def _healed(space: Space, wanted: Json) -> Callable[[], None]:
    def check() -> None:
        live = space.deployment()
        assert live["spec"] == wanted["spec"]
        assert live["metadata"]["labels"] == wanted["metadata"]["labels"]
        assert live["metadata"]["ownerReferences"] == wanted["metadata"]["ownerReferences"]

    return check


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=pytest.mark.fault("People", f"edited by hand: {case}"))
        for case in _EDITS
    ],
)
def test_an_edit_of_the_deployment_heals(
    case: str, operator: OperatorProcess, space: Space, record_fault: RecordFault
) -> None:
    space.settle()
    wanted = space.deployment()
    edited = space.api.patch(
        "deployments", space.namespace, MODEL, _EDITS[case], "json", manager="kubectl-edit"
    )
    assert edited["metadata"]["resourceVersion"] != wanted["metadata"]["resourceVersion"]
    began = time.monotonic()
    space.eventually(_healed(space, wanted), within=10)
    seconds = time.monotonic() - began
    space.until("is served again", lambda m: m.settled)
    assert len(space.revisions()) == 1
    record_fault(
        reason="Serving",
        seen=f"the Deployment is as it was after {seconds:.1f} s; no new revision",
        healed="by itself",
    )


@pytest.mark.parametrize("resource", ["deployments", "services"])
def test_a_deleted_child_comes_back(resource: str, operator: OperatorProcess, space: Space) -> None:
    space.settle()
    old = space.child(resource)["metadata"]["uid"]
    space.api.delete(resource, space.namespace, MODEL)

    def new() -> None:
        assert space.child(resource)["metadata"]["uid"] != old

    space.eventually(new, within=10)
    space.until("is served again", lambda m: m.settled and m.status["readyReplicas"] == 1)
    assert len(space.revisions()) == 1


def test_a_deployment_deleted_in_the_foreground_comes_back(
    operator: OperatorProcess, space: Space
) -> None:
    space.settle(replicas=2)
    old = space.deployment()["metadata"]["uid"]
    space.api.delete("deployments", space.namespace, MODEL, propagationPolicy="Foreground")

    def new() -> None:
        assert space.deployment()["metadata"]["uid"] != old

    space.eventually(new, within=10)
    space.until("is served again", lambda m: m.settled and m.status["readyReplicas"] == 2)


def test_a_deleted_revision_comes_back_and_no_pod_is_replaced(
    operator: OperatorProcess, space: Space
) -> None:
    space.settle()
    (before,) = space.revisions()
    pods = {pod["metadata"]["uid"] for pod in space.pods()}
    space.api.delete("controllerrevisions", space.namespace, before["metadata"]["name"])

    def back() -> None:
        (after,) = space.revisions()
        assert after["metadata"]["uid"] != before["metadata"]["uid"]
        assert after["data"] == before["data"]
        assert after["metadata"]["annotations"].get("slipway.dev/outcome") == "Good"

    space.eventually(back, within=10)
    space.until("is served", lambda m: m.settled)
    assert {pod["metadata"]["uid"] for pod in space.pods()} == pods


@pytest.mark.parametrize(
    ("resource", "patch"),
    [
        ("services", {"spec": {"selector": {"slipway.dev/model": "another"}}}),
        ("services", {"spec": {"type": "NodePort"}}),
        ("poddisruptionbudgets", {"spec": {"maxUnavailable": 2}}),
        ("horizontalpodautoscalers", {"spec": {"maxReplicas": 50}}),
    ],
    ids=["the Service's selector", "the Service's type", "the budget", "the autoscaler"],
)
def test_an_edit_of_another_child_heals(
    resource: str, patch: Json, operator: OperatorProcess, space: Space
) -> None:
    space.settle(replicas=2, autoscaling={"minReplicas": 2, "maxReplicas": 4})
    (part,) = patch["spec"]
    wanted = space.child(resource)["spec"][part]
    space.api.patch(resource, space.namespace, MODEL, patch, manager="kubectl-edit")

    def healed() -> None:
        assert space.child(resource)["spec"][part] == wanted

    space.eventually(healed, within=10)


def test_what_others_add_stays_theirs(
    operator: OperatorProcess, space: Space, audit: AuditLog
) -> None:
    space.settle()
    space.api.patch(
        "deployments",
        space.namespace,
        MODEL,
        {
            "metadata": {"annotations": {"example.com/ticket": "42"}},
            "spec": {
                "template": {
                    "metadata": {"annotations": {"sidecar.example.com/injected": "true"}},
                    "spec": {"containers": [{"name": "mesh", "image": "mesh:1"}]},
                }
            },
        },
        "strategic",
        manager="injector",
    )
    mark = audit.mark()
    space.until(
        "has replaced its pod",
        lambda m: m.settled and all(len(pod["spec"]["containers"]) == 2 for pod in space.pods()),
    )
    assert not [
        request
        for request in audit.writes(mark, operator.credential)
        if (request.namespace, request.resource) == (space.namespace, "deployments")
    ], "nothing was to be done about it"
    # A change of the operator's own must leave them, too.
    space.settle(version="v2")
    live = space.deployment()
    template = live["spec"]["template"]
    assert live["metadata"]["annotations"]["example.com/ticket"] == "42"
    assert template["metadata"]["annotations"]["sidecar.example.com/injected"] == "true"
    assert {c["name"] for c in template["spec"]["containers"]} == {"serve", "mesh"}


def test_what_is_no_longer_asked_for_goes_away(operator: OperatorProcess, space: Space) -> None:
    """Also a field of the very first template, which was sent when the Deployment was created."""
    first = {
        "runtime": {"env": [{"name": "OMP_WAIT_POLICY", "value": "PASSIVE"}]},
        "template": {
            "annotations": {"example.com/team": "risk"},
            "labels": {"example.com/tier": "gold"},
            "priorityClassName": "system-cluster-critical",
            "nodeSelector": {"kubernetes.io/os": "linux"},
        },
    }
    space.settle(**first)
    space.settle(version="v2")
    (_, now) = space.revisions()
    template = space.deployment()["spec"]["template"]
    assert (
        template["metadata"]["annotations"] == (now["data"]["template"]["metadata"]["annotations"])
    )
    assert template["metadata"]["labels"] == now["data"]["template"]["metadata"]["labels"]
    (serve,) = template["spec"]["containers"]
    assert "OMP_WAIT_POLICY" not in {variable["name"] for variable in serve["env"]}
    assert "priorityClassName" not in template["spec"]
    assert "nodeSelector" not in template["spec"]


def test_the_operator_is_one_field_manager(operator: OperatorProcess, space: Space) -> None:
    space.settle(replicas=2)
    space.settle(replicas=2, version="v2")
    for resource in ("deployments", "services", "poddisruptionbudgets"):
        managers = {
            entry["manager"]
            for entry in space.child(resource)["metadata"]["managedFields"]
            if entry.get("subresource") != "status"
        }
        assert managers - {"kube-controller-manager"} == {"slipway-operator"}, resource


@pytest.mark.fault("People", "kubectl rollout pause in the middle of a rollout")
def test_a_paused_rollout_goes_on(
    operator: OperatorProcess, space: Space, cluster: Cluster, record_fault: RecordFault
) -> None:
    space.settle()
    space.behave("v2", pod_status.loading)
    space.apply(version="v2")
    space.eventually(lambda: _has_pods(space, "v2"))
    cluster.kubectl("rollout", "pause", f"deployment/{MODEL}", "-n", space.namespace)
    began = time.monotonic()
    space.eventually(lambda: _is_not_paused(space))
    seconds = time.monotonic() - began
    space.behave("v2", pod_status.ready)
    space.until("serves the new version", lambda m: m.settled and m.serving == space.digest("v2"))
    record_fault(
        reason="RollingOut",
        seen=f"the pause was taken back after {seconds:.1f} s",
        healed="the rollout went on and completed",
    )


def _is_not_paused(space: Space) -> None:
    assert not space.deployment()["spec"].get("paused"), "the Deployment is paused"


def _has_pods(space: Space, version: str) -> None:
    assert space.pods(version), f"no pod of {version}"

"""Targets of autoscaling other than processor use: kept by the API server, and scaled by."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby

import pytest
from operator_kit.api import Api, ApiError
from operator_kit.audit import AuditLog
from operator_kit.custom_metrics import METRIC, CustomMetrics
from operator_kit.operator_process import OperatorProcess
from operator_kit.space import MODEL, Space, View

SCALING = {
    "minReplicas": 1,
    "maxReplicas": 4,
    "targetMemoryUtilization": 80,
    "podMetrics": [{"name": METRIC, "averageValue": "1000m"}],
}
_BY_QUEUE = {
    "minReplicas": 1,
    "maxReplicas": 6,
    "targetCpuUtilization": 0,
    "podMetrics": [{"name": METRIC, "averageValue": 2}],
}
_AUTOSCALER = "system:serviceaccount:kube-system:horizontal-pod-autoscaler"


@pytest.fixture
def custom_metrics(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CustomMetrics]:
    made = CustomMetrics(api, tmp_path_factory.mktemp("custom-metrics")).start()
    yield made
    made.stop()


def test_memory_and_pod_metrics_reach_the_autoscaler_and_are_written_once(
    operator: OperatorProcess, space: Space, audit: AuditLog
) -> None:
    space.settle(autoscaling=SCALING)

    def there() -> dict:
        return space.child("horizontalpodautoscalers")

    cpu, memory, queue = space.eventually(there)["spec"]["metrics"]
    assert cpu["resource"]["target"]["averageUtilization"] == 70
    assert memory["resource"] == {
        "name": "memory",
        "target": {"type": "Utilization", "averageUtilization": 80},
    }
    assert queue["pods"]["metric"] == {"name": METRIC}
    # The same number in another notation, which must not be taken for a difference.
    assert queue["pods"]["target"] == {"type": "AverageValue", "averageValue": "1"}
    space.until("is served", lambda m: m.settled)
    mark = audit.mark()
    space.apply(autoscaling={**SCALING, "maxReplicas": 5})

    def follows() -> None:
        assert space.child("horizontalpodautoscalers")["spec"]["maxReplicas"] == 5

    space.eventually(follows)
    space.apply(autoscaling={**SCALING, "maxReplicas": 5}, replicas=1)
    patch = {"metadata": {"annotations": {"tests": "look again"}}}
    space.api.patch("horizontalpodautoscalers", space.namespace, MODEL, patch)
    space.until("is served", lambda m: m.settled)
    written = [
        w
        for w in audit.writes(mark, operator.credential)
        if w.namespace == space.namespace and w.resource == "horizontalpodautoscalers"
    ]
    # Two: the fields are taken over from the creation, and applied.
    assert len(written) <= 2


def test_the_requests_that_wait_decide_on_the_number_of_pods(
    operator: OperatorProcess, space: Space, audit: AuditLog, custom_metrics: CustomMetrics
) -> None:
    """Each pod shall have two of them; the real autoscaler asks for the metric and decides."""
    custom_metrics.report(space.namespace, waiting=2)
    space.settle(autoscaling=_BY_QUEUE)
    mark, began = audit.mark(), space.deployment()["metadata"]["resourceVersion"]
    custom_metrics.report(space.namespace, waiting=8)
    _has_pods(space, 4)
    custom_metrics.report(space.namespace, waiting=3)
    _has_pods(space, 2)

    def sees_what_is_left() -> None:
        (current,) = space.child("horizontalpodautoscalers")["status"]["currentMetrics"]
        assert current["pods"]["current"] == {"averageValue": "1500m"}

    space.eventually(sees_what_is_left)
    assert _numbers_since(space, began) == [4, 2]
    requests = [r for r in audit.since(mark) if r.namespace == space.namespace]
    asked = {r.user for r in requests if r.resource == f"pods/{METRIC}" and r.code == 200}
    assert asked == {_AUTOSCALER}
    wrote = {r.user for r in requests if r.resource == "deployments/scale" and r.verb == "update"}
    assert wrote == {_AUTOSCALER}
    ours = [r for r in audit.writes(mark, operator.credential) if r.namespace == space.namespace]
    assert not [str(r) for r in ours if r.resource.startswith("deployments")]
    assert {r.resource for r in ours} >= {"modeldeployments/status"}


def _has_pods(space: Space, number: int) -> None:
    """The status tells of so many pods, all of them ready."""

    def has(model: View) -> bool:
        counts = (model.status.get("replicas"), model.status.get("readyReplicas"))
        return counts == (number, number)

    space.until(f"has {number} pods", has, within=30)


def _numbers_since(space: Space, version: str) -> list[int]:
    """The numbers of replicas that the Deployment was given since then, each change once."""
    query = {"fieldSelector": f"metadata.name={MODEL}", "timeoutSeconds": "1"}
    watched = space.api.watch("deployments", space.namespace, version, **query)
    numbers = [deployment["spec"]["replicas"] for _, deployment in watched]
    return [number for number, _ in groupby(numbers)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"podMetrics": [{"name": "queue", "averageValue": "lots"}]},
        {"podMetrics": [{"name": "", "averageValue": 1}]},
        {"podMetrics": [{"name": "q", "averageValue": 1}, {"name": "q", "averageValue": 2}]},
        {"targetMemoryUtilization": 0},
    ],
    ids=["no number", "no name", "named twice", "nothing"],
)
def test_targets_that_mean_nothing_are_refused(wrong: dict, space: Space) -> None:
    with pytest.raises(ApiError):
        space.apply(autoscaling={**SCALING, **wrong})


def test_an_autoscaler_that_can_read_no_metrics_is_told(
    operator: OperatorProcess, space: Space
) -> None:
    """The real autoscaler says so itself, since there is no metrics server here."""
    space.settle(autoscaling={"minReplicas": 1, "maxReplicas": 4})

    def conditions() -> list[dict]:
        told = space.child("horizontalpodautoscalers")["status"]["conditions"]
        assert [c["reason"] for c in told if c["type"] == "ScalingActive"] == [
            "FailedGetResourceMetric"
        ]
        return told

    # As if it had lasted for some minutes.
    before = (datetime.now(UTC) - timedelta(minutes=6)).strftime("%Y-%m-%dT%H:%M:%SZ")
    aged = [{**c, "lastTransitionTime": before} for c in space.eventually(conditions)]
    patch = {"status": {"conditions": aged}}
    space.api.patch("horizontalpodautoscalers", space.namespace, MODEL, patch, subresource="status")
    view = space.until("is told", lambda m: "is there a metrics server" in m.message)
    assert view.settled
    assert f"kubectl describe hpa {MODEL} -n {space.namespace}" in view.message

"""Targets of autoscaling other than processor use, as the API server keeps them."""

from __future__ import annotations

import pytest
from operator_kit.api import ApiError
from operator_kit.audit import AuditLog
from operator_kit.operator_process import OperatorProcess
from operator_kit.space import MODEL, Space

SCALING = {
    "minReplicas": 1,
    "maxReplicas": 4,
    "targetMemoryUtilization": 80,
    "podMetrics": [{"name": "nv_inference_pending_request_count", "averageValue": "1000m"}],
}


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
    assert queue["pods"]["metric"] == {"name": "nv_inference_pending_request_count"}
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

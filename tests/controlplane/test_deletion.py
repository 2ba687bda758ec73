"""All that a ModelDeployment made goes with it, by Kubernetes' own garbage collection."""

from __future__ import annotations

import pytest
from operator_kit.space import MODEL, Space

from .conftest import Launch, RecordFault

_MADE = (
    "deployments",
    "replicasets",
    "pods",
    "services",
    "controllerrevisions",
    "poddisruptionbudgets",
    "horizontalpodautoscalers",
)
_SCALED = {"replicas": 2, "autoscaling": {"minReplicas": 2, "maxReplicas": 4}}


def _nothing_is_left(space: Space) -> None:
    left = {kind: len(found) for kind in _MADE if (found := space.of(kind))}
    assert not left, f"still there: {left}"


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param(
            policy,
            marks=pytest.mark.fault("People", f"deleted ({policy.lower()}), the operator is down"),
        )
        for policy in ("Background", "Foreground")
    ],
)
def test_deletion_needs_no_operator(
    launch: Launch, space: Space, policy: str, record_fault: RecordFault
) -> None:
    own = launch().until_leading()
    space.settle(**_SCALED)
    assert all(space.of(kind) for kind in _MADE)
    own.stop()
    space.delete(policy=policy)
    space.eventually(lambda: _nothing_is_left(space), within=60)
    assert space.api.get("modeldeployments", space.namespace, MODEL) is None
    record_fault(
        seen="no finalizer: Kubernetes' own garbage collection removes everything",
        healed="nothing is left",
    )

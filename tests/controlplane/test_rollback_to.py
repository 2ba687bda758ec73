"""slipway.dev/rollback-to on a real API server: the old ReplicaSet serves again."""

from __future__ import annotations

from operator_kit.operator_process import OperatorProcess
from operator_kit.space import MODEL, Space

ANNOTATION = "slipway.dev/rollback-to"


def _annotate(space: Space, value: str | None) -> None:
    patch = {"metadata": {"annotations": {ANNOTATION: value}}}
    space.api.patch("modeldeployments", space.namespace, MODEL, patch)


def _serves(space: Space, version: str) -> None:
    digest = space.digest(version)
    space.until(
        f"serves {version}",
        lambda m: m.settled and m.status["serving"]["digest"] == digest,
    )
    template = space.deployment()["spec"]["template"]
    assert template["metadata"]["annotations"]["slipway.dev/digest"] == digest


def test_a_revision_is_served_again_until_the_annotation_goes_or_the_spec_changes(
    operator: OperatorProcess, space: Space
) -> None:
    space.settle(version="v1", replicas=2)
    before = set(space.replica_sets())
    space.settle(version="v2", replicas=2)

    _annotate(space, "1")
    _serves(space, "v1")
    view = space.until("tells it", lambda m: m.reason == "RollbackRequested")
    assert view.status["requestedRollback"]["insteadOf"] == 2
    # The ReplicaSet is the one that was there before, not a third one.
    assert len(space.replica_sets()) == 2
    assert before <= set(space.replica_sets())

    _annotate(space, "17")
    view = space.until("refuses", lambda m: m.stalled == "UnknownRevision")
    assert "(1, 2)" in view.message
    assert view.condition("Available")["status"] == "True"

    _annotate(space, None)
    _serves(space, "v2")

    _annotate(space, "1")
    _serves(space, "v1")
    space.apply(version="v3", replicas=2, annotations={ANNOTATION: "1"})
    _serves(space, "v3")
    assert space.view().reason == "Serving"

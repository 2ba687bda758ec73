"""What cannot be done is said with the way out, harms nothing, and heals when the cause is gone."""

from __future__ import annotations

import time
from typing import Any

import pytest
from operator_kit.audit import AuditLog
from operator_kit.operator_process import OperatorProcess
from operator_kit.others import foreign_deployment
from operator_kit.space import MODEL, Space

from .conftest import RecordFault

Json = dict[str, Any]


def _looks_like_ours() -> Json:
    """A foreign Deployment that bears the operator's labels, without its owner reference."""
    foreign = foreign_deployment()
    foreign["metadata"]["labels"] = {
        "app.kubernetes.io/managed-by": "slipway-operator",
        "slipway.dev/model": MODEL,
    }
    return foreign


def _foreign_service() -> Json:
    return {"metadata": {"name": MODEL}, "spec": {"ports": [{"port": 80}]}}


def _foreign(what: str, resource: str, foreign: Json) -> Any:
    mark = pytest.mark.fault("People", f"foreign {what} of the same name")
    return pytest.param(resource, foreign, id=what, marks=mark)


@pytest.mark.parametrize(
    ("resource", "foreign"),
    [
        _foreign("Deployment", "deployments", foreign_deployment()),
        _foreign("Deployment with our labels", "deployments", _looks_like_ours()),
        _foreign("Service", "services", _foreign_service()),
    ],
)
def test_a_foreign_object_of_that_name_is_told_and_never_written(
    resource: str,
    foreign: Json,
    operator: OperatorProcess,
    space: Space,
    audit: AuditLog,
    record_fault: RecordFault,
) -> None:
    space.api.create(resource, foreign, space.namespace)
    mark = audit.mark()
    space.apply()
    began = time.monotonic()
    view = space.until("tells the conflict", lambda m: m.stalled == "NameConflict", within=10)
    seconds = time.monotonic() - began
    assert f"'{MODEL}' that does not belong to this ModelDeployment exists" in view.message
    assert "remove or rename it, or give the ModelDeployment another name" in view.message
    written = [
        request
        for request in audit.writes(mark, operator.credential)
        if (request.namespace, request.resource) == (space.namespace, resource)
        and request.code < 300
    ]
    assert not written
    space.api.delete(resource, space.namespace, MODEL)
    # A foreign object's removal causes no event: its place is looked at every ten seconds.
    space.until("is served", lambda m: m.settled, within=25)
    record_fault(
        reason="NameConflict",
        seen="the object is named and never written, and how to end it is said",
        seconds=seconds,
        healed="by itself within ten seconds of the object's removal",
    )


def test_an_orphaned_child_is_foreign(operator: OperatorProcess, space: Space) -> None:
    space.settle()
    space.delete(policy="Orphan")

    def gone() -> None:
        assert space.api.get("modeldeployments", space.namespace, MODEL) is None

    space.eventually(gone)
    space.apply()
    space.until("tells the conflict", lambda m: m.stalled == "NameConflict")


def test_an_unknown_pool_lists_those_there_are(operator: OperatorProcess, space: Space) -> None:
    space.apply(pool="tpu")
    view = space.until("is refused", lambda m: m.stalled == "UnknownPool")
    assert "spec.pool 'tpu' is not a pool of this operator: use one of cpu, gpu" in view.message
    assert not space.of("deployments")
    space.settle(pool="cpu")


@pytest.mark.parametrize(
    ("rollout", "says"),
    [
        ({"maxSurge": 0, "maxUnavailable": 0}, "no pod could ever be replaced"),
        ({"maxSurge": "0%"}, "no pod could ever be replaced"),
        (
            {"minReadySeconds": 60, "progressDeadlineSeconds": 60},
            "raise spec.rollout.progressDeadlineSeconds or lower spec.rollout.minReadySeconds",
        ),
    ],
    ids=["no surge and none unavailable", "the pool's value decides", "deadline too short"],
)
def test_a_rollout_that_could_never_end_is_refused_and_what_serves_goes_on(
    rollout: Json, says: str, operator: OperatorProcess, space: Space
) -> None:
    space.settle()
    space.apply(version="v2", rollout=rollout)
    view = space.until("is refused", lambda m: m.current and m.stalled == "InvalidRollout")
    assert says in view.message
    assert view.row == ("False", "-", "True", "True")
    assert view.serving == space.digest("v1")
    space.settle(version="v2")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"template": {"nodeSelector": {"not a label": "x"}}}, "nodeSelector"),
        ({"template": {"tolerations": [{"operator": "Sometimes"}]}}, "tolerations"),
        ({"template": {"serviceAccountName": "No Such Name"}}, "serviceAccountName"),
        (
            {"runtime": {"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}},
            "must be less than or equal to cpu limit",
        ),
        ({"rollout": {"maxUnavailable": "150%"}}, "maxUnavailable"),
        ({"template": {"affinity": {"nodeAffinty": {}}}}, "affinity.nodeAffinty"),
    ],
    ids=[
        "node selector",
        "toleration",
        "service account",
        "requests above limits",
        "more than all unavailable",
        "misspelt field",
    ],
)
def test_what_the_api_server_refuses_is_told_in_its_words_and_heals(
    spec: Json, says: str, operator: OperatorProcess, space: Space
) -> None:
    space.settle()
    space.apply(version="v2", **spec)
    view = space.until("is refused", lambda m: m.current and m.stalled == "ApplyRejected")
    assert "the API server refuses the Deployment" in view.message
    assert says in view.message
    assert len(view.message) < 2048
    assert view.row == ("False", "-", "True", "True")
    assert view.serving == space.digest("v1")
    space.settle(version="v3")


def test_a_misspelt_field_of_a_new_model_is_told_and_not_left_out(
    operator: OperatorProcess, space: Space
) -> None:
    space.apply(template={"affinity": {"nodeAffinty": {}}})
    view = space.until("is refused", lambda m: m.current and m.stalled == "ApplyRejected")
    assert 'unknown field "spec.template.spec.affinity.nodeAffinty"' in view.message
    space.settle(version="v2")

"""The table of conditions: each row is brought about for real and judged by kstatus itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from operator_kit import pod_status
from operator_kit.kstatus import kstatus
from operator_kit.operator_process import OperatorProcess
from operator_kit.others import Rival, foreign_deployment
from operator_kit.space import MODEL, Space, View

from slipway_dev.cluster import Cluster

Json = dict[str, Any]

_MISMATCH = pod_status.fetch_fails(20, "DigestMismatch", "the bytes hash to something else")


def _has_reason(reason: str) -> Callable[[View], bool]:
    return lambda m: m.current and reason in (m.reason, m.stalled)


def _first_rollout(space: Space) -> View:
    space.behave("v1", pod_status.fetching)
    space.apply()
    return space.until("is deploying", _has_reason("Deploying"))


def _first_rollout_with_a_cause(space: Space) -> View:
    space.behave("v1", pod_status.fetch_fails(31, "AccessDenied", "403"))
    space.apply()
    return space.until("is denied", _has_reason("AccessDenied"))


def _rolling(space: Space) -> View:
    space.settle(replicas=2)
    space.behave("v2", pod_status.loading)
    space.apply(version="v2", replicas=2)
    return space.until("is rolling", _has_reason("RollingOut"))


def _rolled_back(space: Space) -> View:
    space.settle()
    space.behave("v2", _MISMATCH)
    space.apply(version="v2")
    return space.until("went back", _has_reason("RolledBack"))


def _held_while_the_old_serves(space: Space) -> View:
    space.settle()
    space.behave("v2", _MISMATCH)
    space.apply(version="v2", rollout={"onFailure": "Hold"})
    return space.until("is held", _has_reason("RolloutHeld"))


def _held_with_nothing_before(space: Space) -> View:
    space.behave("v1", _MISMATCH)
    space.apply()
    return space.until("is held", _has_reason("RolloutHeld"))


def _refused_while_the_old_serves(space: Space) -> View:
    space.settle()
    space.apply(pool="tpu")
    return space.until("is refused", _has_reason("UnknownPool"))


def _name_is_taken(space: Space) -> View:
    space.api.create("deployments", foreign_deployment(), space.namespace)
    space.apply()
    return space.until("tells the conflict", _has_reason("NameConflict"))


def _name_is_taken_while_it_serves(space: Space) -> View:
    """Of a child that comes only with the second replica."""
    space.settle(replicas=1)
    foreign: Json = {"metadata": {"name": MODEL}, "spec": {"selector": {}, "maxUnavailable": 1}}
    space.api.create("poddisruptionbudgets", foreign, space.namespace)
    space.apply(replicas=2)
    return space.until("tells the conflict", _has_reason("NameConflict"))


def _field_is_fought_over(space: Space) -> View:
    """The fight is over; for the back-off's five minutes nobody looks whether it is."""
    space.settle()
    with Rival(space):
        return space.until("tells the fight", _has_reason("FieldConflict"))


def _complete(space: Space) -> View:
    return space.settle(replicas=2)


def _one_pod_lost(space: Space) -> View:
    space.settle(replicas=2)
    space.kubelet.report(space.pods()[0], pod_status.out_of_memory(restarts=1))
    return space.until("has lost a pod", lambda m: m.status["readyReplicas"] == 1)


def _all_pods_lost(space: Space) -> View:
    space.settle()
    space.behave("v1", pod_status.out_of_memory(restarts=1))
    return space.until("has lost its pod", lambda m: m.row[0] == "False")


def _scaled_to_zero(space: Space) -> View:
    space.settle()
    space.scale(0)
    return space.until("has no pod", lambda m: m.current and m.reason == "ScaledToZero")


def _created_with_zero(space: Space) -> View:
    space.apply(replicas=0)
    return space.until("has no pod", _has_reason("ScaledToZero"))


def _suspended(space: Space) -> View:
    space.settle()
    space.apply(version="v2", suspend=True)
    return space.until("has seen the new generation", lambda m: m.current)


def _created_suspended(space: Space) -> View:
    space.apply(suspend=True)
    return space.until("is suspended", _has_reason("Suspended"))


@dataclass(frozen=True)
class Row:
    """One row: how to get there, Ready/Reconciling/Stalled/Available, and kstatus' verdict."""

    bring_about: Callable[[Space], View]
    conditions: str
    verdict: str


_TABLE: dict[str, Row] = {
    "first rollout": Row(_first_rollout, "False True - False", "InProgress"),
    "first rollout, cause known": Row(
        _first_rollout_with_a_cause, "False True - False", "InProgress"
    ),
    "rolling, the old serves": Row(_rolling, "Unknown True - True", "InProgress"),
    "rolled back": Row(_rolled_back, "False - True True", "Failed"),
    "held, the old serves": Row(_held_while_the_old_serves, "False - True True", "Failed"),
    "held, nothing serves": Row(_held_with_nothing_before, "False - True False", "Failed"),
    "refused, the old serves": Row(_refused_while_the_old_serves, "False - True True", "Failed"),
    "name taken, nothing serves": Row(_name_is_taken, "False - True False", "Failed"),
    "name of a child taken, it serves": Row(
        _name_is_taken_while_it_serves, "False - True True", "Failed"
    ),
    "field fought over": Row(_field_is_fought_over, "False - True True", "Failed"),
    "complete": Row(_complete, "True - - True", "Current"),
    "complete, one pod lost": Row(_one_pod_lost, "True - - True", "Current"),
    "complete, all pods lost": Row(_all_pods_lost, "False True - False", "InProgress"),
    "scaled to zero": Row(_scaled_to_zero, "True - - False", "Current"),
    "created with zero": Row(_created_with_zero, "True - - False", "Current"),
    "suspended keeps its last": Row(_suspended, "True - - True", "Current"),
    "created suspended": Row(_created_suspended, "Unknown - - -", "InProgress"),
}


@pytest.mark.parametrize("case", _TABLE)
def test_a_situation_has_its_conditions_and_kstatus_agrees(
    case: str, operator: OperatorProcess, space: Space
) -> None:
    row = _TABLE[case]
    row.bring_about(space)

    def as_the_table_says() -> None:
        view = space.view()
        assert " ".join(view.row) == row.conditions
        assert kstatus(view.obj) == row.verdict

    space.eventually(as_the_table_says)
    view = space.view()
    generation = view.obj["metadata"]["generation"]
    assert view.status["observedGeneration"] == generation
    assert {c["observedGeneration"] for c in view.conditions} == {generation}
    assert all(c["reason"] and c["message"] for c in view.conditions)


def test_kstatus_waits_for_the_first_look_at_a_new_object(space: Space) -> None:
    """No operator runs here: an object that nobody has looked at must not count as done."""
    space.apply()
    assert kstatus(space.view().obj) == "InProgress"


def test_kstatus_waits_for_the_first_look_at_a_change(
    operator: OperatorProcess, space: Space
) -> None:
    done = space.settle().obj
    done["metadata"]["generation"] += 1
    assert kstatus(done) == "InProgress"


def test_reconciling_and_stalled_are_never_both_there(
    operator: OperatorProcess, space: Space
) -> None:
    """Every state that a watcher sees on the way through a failure and out of it."""
    space.behave("v2", _MISMATCH)
    space.settle()
    began = space.view().obj["metadata"]["resourceVersion"]
    space.apply(version="v2")
    space.until("went back", _has_reason("RolledBack"))
    space.settle(version="v3")
    seen = []
    name = {"fieldSelector": "metadata.name=fraud", "timeoutSeconds": "2"}
    for _, obj in space.api.watch("modeldeployments", space.namespace, began, **name):
        seen.append(View(obj))
    rows = [view.row for view in seen]
    assert ("False", "-", "True", "True") in rows
    assert rows[-1] == ("True", "-", "-", "True")
    for ready, reconciling, stalled, available in rows:
        assert "-" in (reconciling, stalled)
        assert available == "True", "the old version served all the time"
        assert (ready == "True") == (reconciling == stalled == "-")


def test_a_transition_time_moves_only_with_its_status(
    operator: OperatorProcess, space: Space
) -> None:
    before = space.settle().condition("Available")["lastTransitionTime"]
    space.settle(version="v2")
    assert space.view().condition("Available")["lastTransitionTime"] == before


def test_kubectl_wait_returns_when_the_model_is_served(
    operator: OperatorProcess, space: Space, cluster: Cluster
) -> None:
    waiting = ("wait", "mdep/fraud", "--for=condition=Ready", "-n", space.namespace)
    space.behave("v1", pod_status.fetching)
    space.apply()
    early = cluster.kubectl(*waiting, "--timeout=1s", check=False)
    assert early.returncode != 0
    space.behave("v1", pod_status.ready)
    cluster.kubectl(*waiting, "--timeout=20s")
    assert space.view().settled

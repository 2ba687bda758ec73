"""Autoscaling: who owns the number of pods, and that it never falls when that changes hands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from operator_kit import pod_status
from operator_kit.operator_process import OperatorProcess
from operator_kit.space import MODEL, Space

Json = dict[str, Any]

_BOUNDS = {"minReplicas": 2, "maxReplicas": 9}
_AUTOSCALER = "horizontal-pod-autoscaler"


def _play_the_autoscaler(space: Space, replicas: int) -> None:
    """Write the number as the autoscaler does: through the scale subresource."""
    space.api.patch(
        "deployments",
        space.namespace,
        MODEL,
        {"spec": {"replicas": replicas}},
        subresource="scale",
        manager=_AUTOSCALER,
    )


def _numbers_since(space: Space, version: str) -> Iterator[int]:
    """Every number of replicas that the Deployment has had since then."""
    query = {"fieldSelector": f"metadata.name={MODEL}", "timeoutSeconds": "2"}
    for _, deployment in space.api.watch("deployments", space.namespace, version, **query):
        yield deployment["spec"]["replicas"]


def _has_pods(space: Space, number: int) -> None:
    space.until(f"has {number} pods", lambda m: m.status.get("readyReplicas") == number)


def test_switching_autoscaling_on_never_dips(operator: OperatorProcess, space: Space) -> None:
    space.settle(replicas=5)
    began = space.deployment()["metadata"]["resourceVersion"]
    space.apply(replicas=5, autoscaling=_BOUNDS)
    space.eventually(lambda: space.child("horizontalpodautoscalers"))
    _play_the_autoscaler(space, 6)
    _has_pods(space, 6)
    # A change of the operator's own, with the number in the autoscaler's hands.
    space.settle(version="v2", replicas=5, autoscaling=_BOUNDS)
    assert set(_numbers_since(space, began)) <= {5, 6}
    assert space.deployment()["spec"]["replicas"] == 6


def test_the_number_of_replicas_without_autoscaler_yet_stays_as_it_is(
    operator: OperatorProcess, space: Space
) -> None:
    """The starting value is for a Deployment that is made, not for one that runs."""
    space.settle(replicas=5)
    space.settle(replicas=1, autoscaling=_BOUNDS)
    space.settle(version="v2", replicas=1, autoscaling=_BOUNDS)
    assert space.deployment()["spec"]["replicas"] == 5


@pytest.mark.parametrize(("replicas", "first"), [(1, 2), (3, 3), (20, 9)])
def test_a_new_model_starts_within_the_bounds(
    replicas: int, first: int, operator: OperatorProcess, space: Space
) -> None:
    space.settle(replicas=replicas, autoscaling=_BOUNDS)
    assert space.deployment()["spec"]["replicas"] == first
    autoscaler = space.child("horizontalpodautoscalers")["spec"]
    assert (autoscaler["minReplicas"], autoscaler["maxReplicas"]) == (2, 9)
    assert autoscaler["scaleTargetRef"]["name"] == MODEL


def test_what_the_autoscaler_wrote_survives_a_rollback(
    operator: OperatorProcess, space: Space
) -> None:
    space.settle(replicas=2, autoscaling=_BOUNDS)
    _play_the_autoscaler(space, 7)
    _has_pods(space, 7)
    began = space.deployment()["metadata"]["resourceVersion"]
    space.behave("v2", pod_status.fetch_fails(20, "DigestMismatch", "other bytes"))
    space.apply(version="v2", replicas=2, autoscaling=_BOUNDS)
    space.until("went back", lambda m: m.stalled == "RolledBack")
    _has_pods(space, 7)
    assert set(_numbers_since(space, began)) == {7}


def test_switching_autoscaling_off_takes_the_autoscaler_away_and_the_number_back(
    operator: OperatorProcess, space: Space
) -> None:
    space.settle(replicas=2, autoscaling=_BOUNDS)
    _play_the_autoscaler(space, 7)
    _has_pods(space, 7)
    space.apply(replicas=3)
    _has_pods(space, 3)
    assert not space.of("horizontalpodautoscalers")
    # And heals from then on.
    _play_the_autoscaler(space, 6)
    space.eventually(lambda: _asks_for(space, 3))


def test_zero_replicas_switch_an_autoscaled_model_off_and_on(
    operator: OperatorProcess, space: Space
) -> None:
    space.settle(replicas=3, autoscaling=_BOUNDS)
    space.scale(0)
    space.until("has no pod", lambda m: m.current and m.reason == "ScaledToZero")
    assert not space.of("horizontalpodautoscalers")
    space.scale(4)
    space.until("is back", lambda m: m.settled and m.status["readyReplicas"] == 4)


def _asks_for(space: Space, replicas: int) -> None:
    assert space.deployment()["spec"]["replicas"] == replicas

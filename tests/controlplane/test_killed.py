"""An operator killed at any step, one row a step: the next one ends where it would have.

A proxy holds one request, or its answer, and the process is killed with SIGKILL while it waits: so
each row is exactly the step that it names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from operator_kit import pod_status
from operator_kit.api_proxy import ApiProxy
from operator_kit.installation import NAMESPACE, RELEASE
from operator_kit.operator_process import OperatorProcess
from operator_kit.space import MODEL, Space
from operator_kit.watchman import Watchman

from .conftest import Launch, RecordFault

_MISMATCH = pod_status.fetch_fails(20, "DigestMismatch", "other bytes")


@dataclass(frozen=True)
class Step:
    """Where it is killed.

    Attributes:
        name: in words.
        request: what is held, as ``apply deployments``.
        answer: the API server has done it, and the operator never reads the answer.
        containing: tells it from other requests of the same kind.
    """

    name: str
    request: str
    answer: bool = False
    containing: Callable[[Space], str] = field(default=lambda _: "")


def _digest(version: str) -> Callable[[Space], str]:
    return lambda space: space.digest(version)


def _word(word: str) -> Callable[[Space], str]:
    return lambda _: word


FIRST_ROLLOUT = [
    Step("before the revision", "create controllerrevisions"),
    Step("revision made, answer not read", "create controllerrevisions", answer=True),
    Step("between revision and Deployment", "create deployments"),
    Step("Deployment made, owner not read back", "create deployments", answer=True),
    Step("between Deployment and Service", "create services"),
    Step("between children and status", "apply modeldeployments/status"),
    Step("between the last pod and the verdict", "merge controllerrevisions", False, _word("Good")),
    Step("verdict written, answer not read", "merge controllerrevisions", True, _word("Good")),
    Step("before the Event", "create events", False, _word("Serving")),
]

FAILING_ROLLOUT = [
    Step("before the new revision", "create controllerrevisions"),
    Step("between revision and template", "apply deployments", False, _digest("v2")),
    Step("template applied, answer not read", "apply deployments", True, _digest("v2")),
    Step("between evidence and verdict", "merge controllerrevisions", False, _word("Failed")),
    Step("verdict written, answer not read", "merge controllerrevisions", True, _word("Failed")),
    Step("between verdict and rollback", "apply deployments", False, _digest("v1")),
    Step("rolled back, answer not read", "apply deployments", True, _digest("v1")),
    Step("between rollback and status", "apply modeldeployments/status", False,
         _word("RolledBack")),
    Step("status written, answer not read", "apply modeldeployments/status", True,
         _word("RolledBack")),
]  # fmt: skip


def _kill(
    step: Step,
    operator: OperatorProcess,
    proxy: ApiProxy,
    space: Space,
    act: Callable[[], object],
) -> None:
    """Let it begin, and kill it at that step; the next one need not wait for its lease."""
    held = proxy.hold(step.request, step.containing(space), answer=step.answer)
    act()
    held.wait()
    operator.kill()
    space.api.delete("leases", NAMESPACE, RELEASE)


def _told(space: Space, reason: str) -> int:
    return sum(event["reason"] == reason for event in space.events(MODEL))


def _rows(steps: list[Step], during: str) -> list[Any]:
    return [
        pytest.param(
            step,
            id=step.name,
            marks=pytest.mark.fault("Operator", f"killed in {during}: {step.name}"),
        )
        for step in steps
    ]


@pytest.mark.parametrize("step", _rows(FIRST_ROLLOUT, "a first rollout"))
def test_killed_in_a_first_rollout(
    step: Step, launch: Launch, proxy: ApiProxy, space: Space, record_fault: RecordFault
) -> None:
    operator = launch(server=proxy.url).until_leading()
    _kill(step, operator, proxy, space, lambda: space.apply(replicas=2))
    launch("again").until_leading()
    view = space.until("is served", lambda m: m.settled and m.status["readyReplicas"] == 2)
    assert [h["outcome"] for h in view.status["history"]] == ["Good"]
    assert space.deployment()["metadata"]["generation"] == 1, "created, and never changed"
    assert len(space.replica_sets()) == len(space.revisions()) == 1
    assert _told(space, "Serving") == 1, "neither untold nor told twice"
    record_fault(
        reason="Serving",
        seen="one revision, one ReplicaSet; the Deployment was created and never changed",
        healed="the next operator completed the rollout",
    )


@pytest.mark.parametrize("step", _rows(FAILING_ROLLOUT, "a rollout that fails"))
def test_killed_in_a_rollout_that_fails(
    step: Step, launch: Launch, proxy: ApiProxy, space: Space, record_fault: RecordFault
) -> None:
    operator = launch(server=proxy.url).until_leading()
    space.settle()
    space.behave("v2", _MISMATCH)
    with Watchman(space) as watchman:
        _kill(step, operator, proxy, space, lambda: space.apply(version="v2"))
        launch("again").until_leading()
        view = space.until("went back", lambda m: m.current and m.stalled == "RolledBack")
    assert view.reason == "DigestMismatch"
    assert view.serving == space.digest("v1")
    assert space.deployment()["metadata"]["generation"] == 3, "created, changed, changed back"
    assert len(space.replica_sets()) == len(space.revisions()) == 2
    assert _told(space, "RolledBack") == 1, "neither untold nor told twice"
    assert watchman.fewest >= 1, "the old version answered throughout"
    record_fault(
        reason="DigestMismatch",
        seen="judged once, rolled back once; the old version had its pods throughout",
        healed="the next operator went back",
    )

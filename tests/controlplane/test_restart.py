"""An operator that is killed anywhere and started again ends where one that was not would have."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from operator_kit import pod_status
from operator_kit.api import Unreachable
from operator_kit.installation import NAMESPACE, RELEASE
from operator_kit.operator_process import OperatorProcess
from operator_kit.space import MODEL, Space

from .conftest import Launch

Json = dict[str, Any]

_MISMATCH = pod_status.fetch_fails(20, "DigestMismatch", "other bytes")


def _start_again(space: Space, launch: Launch, **changes: Any) -> OperatorProcess:
    """A new process that need not wait for the lease of the one that was killed."""
    space.api.delete("leases", NAMESPACE, RELEASE)
    return launch("again", **changes).until_leading()


class _KillOnSight:
    """Kills an operator at the very moment when an object in a namespace looks a certain way."""

    def __init__(
        self, operator: OperatorProcess, space: Space, resource: str, sight: Callable[[Json], bool]
    ) -> None:
        self._operator = operator
        self._space = space
        self._resource = resource
        self._sight = sight
        self._version = space.api.listing(resource, space.namespace)["metadata"]["resourceVersion"]
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        try:
            watch = self._space.api.watch(self._resource, self._space.namespace, self._version)
            for _, obj in watch:
                if self._sight(obj):
                    self._operator.kill()
                    return
        except Unreachable:
            return

    def done(self) -> None:
        """Wait until it was killed."""
        self._thread.join(15)
        assert not self._operator.running(), f"never seen\n{self._space.show()}"


def _annotation(name: str, value: str) -> Callable[[Json], bool]:
    return lambda obj: obj["metadata"].get("annotations", {}).get(f"slipway.dev/{name}") == value


def _serves(digest: str) -> Callable[[Json], bool]:
    def check(deployment: Json) -> bool:
        annotations = deployment["spec"]["template"]["metadata"]["annotations"]
        return annotations["slipway.dev/digest"] == digest

    return check


@dataclass(frozen=True)
class Step:
    """A visible step: the object in which it shows, and how it looks then."""

    resource: str
    sight: Callable[[Space], Callable[[Json], bool]]


def _anything(_: Space) -> Callable[[Json], bool]:
    return lambda _: True


def _has_conditions(model: Json) -> bool:
    return bool(model.get("status", {}).get("conditions"))


def _available(deployment: Json) -> int:
    return deployment.get("status", {}).get("availableReplicas", 0)


def _back_at(space: Space) -> Callable[[Json], bool]:
    """The first version again, after the second."""
    seen: list[bool] = []
    second, first = _serves(space.digest("v2")), _serves(space.digest("v1"))

    def check(deployment: Json) -> bool:
        if second(deployment):
            seen.append(True)
        return bool(seen) and first(deployment)

    return check


_FIRST_STEPS = {
    "the revision is there": Step("controllerrevisions", _anything),
    "the Deployment is there": Step("deployments", _anything),
    "the Service is there": Step("services", _anything),
    "the status is there": Step("modeldeployments", lambda _: _has_conditions),
    "the pods are ready": Step("deployments", lambda _: lambda d: _available(d) == 2),
    "the revision is good": Step("controllerrevisions", lambda _: _annotation("outcome", "Good")),
}


@pytest.mark.parametrize("step", _FIRST_STEPS)
def test_killed_in_a_first_rollout(step: str, launch: Launch, space: Space) -> None:
    operator = launch().until_leading()
    killed = _KillOnSight(
        operator, space, _FIRST_STEPS[step].resource, _FIRST_STEPS[step].sight(space)
    )
    space.apply(replicas=2)
    killed.done()
    _start_again(space, launch)
    view = space.until("is served", lambda m: m.settled and m.status["readyReplicas"] == 2)
    assert [h["outcome"] for h in view.status["history"]] == ["Good"]
    assert space.deployment()["metadata"]["generation"] == 1, "created, and never changed"
    assert len(space.replica_sets()) == len(space.revisions()) == 1


_LATER_STEPS = {
    "the new revision is there": Step("controllerrevisions", _anything),
    "the new template is there": Step("deployments", lambda space: _serves(space.digest("v2"))),
    "a new pod has failed": Step(
        "pods", lambda _: lambda p: p.get("status", {}).get("initContainerStatuses") is not None
    ),
    "the verdict is there": Step("controllerrevisions", lambda _: _annotation("outcome", "Failed")),
    "the old template is back": Step("deployments", _back_at),
}


@pytest.mark.parametrize("step", _LATER_STEPS)
def test_killed_in_a_rollout_that_fails(step: str, launch: Launch, space: Space) -> None:
    operator = launch().until_leading()
    space.settle()
    space.behave("v2", _MISMATCH)
    killed = _KillOnSight(
        operator, space, _LATER_STEPS[step].resource, _LATER_STEPS[step].sight(space)
    )
    space.apply(version="v2")
    killed.done()
    _start_again(space, launch)
    _rolled_back_once(space, MODEL)


def _rolled_back_once(space: Space, name: str) -> None:
    view = space.until("went back", lambda m: m.current and m.stalled == "RolledBack", name)
    assert view.reason == "DigestMismatch"
    generation = space.deployment(name)["metadata"]["generation"]
    assert generation == 3, "created, changed, changed back"
    assert len(space.replica_sets(name)) == len(space.revisions(name)) == 2


def test_killed_at_any_time(launch: Launch, space: Space) -> None:
    """Six models at once, killed at four moments: whatever each of them was about to do."""
    moments = random.Random(20261121)
    names = [f"m{number}" for number in range(6)]
    operator = launch().until_leading()
    for name in names:
        space.apply(name, f"{name}-1")
    for name in names:
        space.until("is served", lambda m: m.settled, name)
    for name in names:
        space.behave(f"{name}-2", _MISMATCH)
        space.apply(name, f"{name}-2")
    for _ in range(4):
        time.sleep(moments.uniform(0.0, 0.25))
        operator.kill()
        operator = _start_again(space, launch)
    for name in names:
        _rolled_back_once(space, name)


def test_what_happened_while_no_operator_ran_is_made_up_for(launch: Launch, space: Space) -> None:
    operator = launch().until_leading()
    for name in ("deleted", "edited", "changed", "created-later", "gone"):
        if name != "created-later":
            space.apply(name, f"{name}-1")
    for name in ("deleted", "edited", "changed", "gone"):
        space.until("is served", lambda m: m.settled, name)
    operator.kill()
    space.api.delete("services", space.namespace, "deleted")
    space.api.patch("deployments", space.namespace, "edited", {"spec": {"replicas": 4}})
    space.apply("changed", "changed-2")
    space.apply("created-later", "created-later-1")
    space.delete("gone")
    _start_again(space, launch)

    def made_up_for() -> None:
        assert space.child("services", "deleted")
        assert space.deployment("edited")["spec"]["replicas"] == 1
        assert space.view("changed").serving == space.digest("changed-2")
        assert space.view("created-later").settled
        assert not space.of("deployments", "gone")

    space.eventually(made_up_for, "changed")


def test_a_failure_while_no_operator_ran_is_found(launch: Launch, space: Space) -> None:
    operator = launch().until_leading()
    space.settle()
    space.behave("v2", pod_status.fetching)
    space.apply(version="v2")
    space.until("rolls", lambda m: m.reason == "RollingOut")
    operator.kill()
    space.behave("v2", _MISMATCH)
    _start_again(space, launch)
    _rolled_back_once(space, MODEL)


# ---- a new operator ----


def _with_image(installation_pools: Json, image: str, **more: Any) -> Json:
    return {name: {**pool, "image": image, **more} for name, pool in installation_pools.items()}


def test_a_new_operator_with_new_images_restarts_no_pod(
    launch: Launch, space: Space, pools: Json
) -> None:
    operator = launch(pools=pools).until_leading()
    space.settle(replicas=2)
    pods = {pod["metadata"]["uid"] for pod in space.pods()}
    operator.stop()
    launch("upgraded", pools=_with_image(pools, "slipway-runtime:next")).until_leading()
    view = space.until("is outdated", lambda m: m.status.get("outdated") is True)
    assert view.settled
    assert {pod["metadata"]["uid"] for pod in space.pods()} == pods
    assert len(space.revisions()) == 1
    # The next version of the model takes them.
    view = space.settle(version="v2", replicas=2)
    assert "outdated" not in view.status
    (serve,) = space.deployment()["spec"]["template"]["spec"]["containers"]
    assert serve["image"] == "slipway-runtime:next"


def test_a_pool_that_adopts_changes_rolls_them_out(
    launch: Launch, space: Space, pools: Json
) -> None:
    operator = launch(pools=pools).until_leading()
    space.settle()
    operator.stop()
    adopting = _with_image(pools, "slipway-runtime:next", adoptChanges=True)
    launch("upgraded", pools=adopting).until_leading()

    def new_image() -> None:
        (pod,) = space.pods()
        assert pod["spec"]["containers"][0]["image"] == "slipway-runtime:next"

    space.eventually(new_image)
    view = space.until("is served", lambda m: m.settled)
    assert "outdated" not in view.status
    assert len(space.revisions()) == 2

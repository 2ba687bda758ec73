"""An operator that was away makes up for it; `test_killed` kills it at every single step."""

from __future__ import annotations

import random
import time
from typing import Any

from operator_kit import pod_status
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

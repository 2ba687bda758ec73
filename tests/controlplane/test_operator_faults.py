"""What goes wrong with the operator itself or on its way to the API server."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from operator_kit import pod_status
from operator_kit.api_proxy import ApiProxy
from operator_kit.space import MODEL, Space
from operator_kit.wall_clock import WallClock
from operator_kit.watchman import Watchman

from .conftest import Launch, RecordFault

Json = dict[str, Any]

_FIRST_LISTS_SECONDS = 6.0
_MISMATCH = pod_status.fetch_fails(20, "DigestMismatch", "other bytes")


# ---- a leader that is replaced while one of its writes is on the way ----


@dataclass(frozen=True)
class LateWrite:
    """A write that arrives when another leads already, and what must not come of it."""

    name: str
    request: str
    containing: Callable[[Space], str]


LATE_WRITES = [
    LateWrite("a template", "apply deployments", lambda space: space.digest("v2")),
    LateWrite("a verdict", "merge controllerrevisions", lambda space: "Failed"),
    LateWrite("a rollback", "apply deployments", lambda space: space.digest("v1")),
    LateWrite("a status", "apply modeldeployments/status", lambda space: "RolledBack"),
]


@pytest.mark.parametrize(
    "late",
    [
        pytest.param(
            late,
            id=late.name,
            marks=pytest.mark.fault(
                "Operator", f"two leaders: {late.name} of the first comes late"
            ),
        )
        for late in LATE_WRITES
    ],
)
def test_what_a_stopped_leader_had_sent_is_refused_when_it_arrives_late(
    late: LateWrite, launch: Launch, proxy: ApiProxy, space: Space, record_fault: RecordFault
) -> None:
    leader = launch("first", server=proxy.url).until_leading()
    other = launch("second").until_ready()
    space.settle()
    space.behave("v2", _MISMATCH)
    held = proxy.hold(late.request, late.containing(space))
    with Watchman(space) as watchman:
        space.apply(version="v2")
        held.wait()
        leader.signal(signal.SIGSTOP)
        other.until_leading(within=10)
        space.until("went back", lambda m: m.current and m.stalled == "RolledBack")
        # A person asks for something else, and gets it from the new leader.
        space.settle(version="v3")
        versions = [space.deployment(), space.view().obj, *space.revisions()]
        held.let_go()
        assert space.eventually(held.status) == 409
        space.until("serves v3", lambda m: m.settled and m.serving == space.digest("v3"))
        assert [space.deployment(), space.view().obj, *space.revisions()] == versions
    leader.signal(signal.SIGCONT)
    assert leader.exit_code() == 1, "it ends by itself when it wakes up"
    assert watchman.fewest >= 1
    record_fault(
        seen="the API server refuses it (409); nothing changes, and the first leader ends",
        healed="the second leader had done the work",
    )


# ---- watches ----


@pytest.mark.fault("Operator", "every watch cut, twice")
def test_watches_that_are_cut_are_resumed_and_miss_nothing(
    launch: Launch, proxy: ApiProxy, space: Space, record_fault: RecordFault
) -> None:
    operator = launch(server=proxy.url).until_leading()
    space.settle()
    all_of_them = proxy.watches()
    assert all_of_them
    for version in ("v2", "v3"):
        proxy.cut_watches()
        space.apply(version=version)
        digest = space.digest(version)
        space.until(f"serves {version}", lambda m, d=digest: m.settled and m.serving == d)

    def resumed() -> None:
        assert proxy.watches() == all_of_them

    space.eventually(resumed)
    assert operator.running()
    assert operator.leads()
    record_fault(seen="watches are resumed at once and miss nothing", healed="by itself")


@pytest.mark.fault("Operator", "every watch expired (410), and a child deleted in the gap")
def test_what_vanished_while_watches_had_expired_is_there_again_within_seconds(
    launch: Launch, proxy: ApiProxy, space: Space, record_fault: RecordFault
) -> None:
    operator = launch(server=proxy.url).until_leading()
    space.settle()
    all_of_them = proxy.watches()
    before = space.child("services")["metadata"]["uid"]
    # Lists that follow the first ones too soon are taken for these; when they end cannot be seen.
    time.sleep(_FIRST_LISTS_SECONDS)
    with proxy.gap():
        space.api.delete("services", space.namespace, MODEL)
    began = time.monotonic()

    def is_back() -> None:
        assert space.child("services")["metadata"]["uid"] != before
        assert proxy.watches() == all_of_them

    space.eventually(is_back, within=30)
    assert operator.leads()
    record_fault(
        seen="watches begin anew with lists, which do not tell what is gone; it is looked for",
        healed=f"the Service was there again after {time.monotonic() - began:.0f} s",
    )


@pytest.mark.fault("Operator", "every connection silent and none closed")
def test_connections_that_fall_silent_are_given_up_and_the_leader_leads_on(
    launch: Launch, proxy: ApiProxy, space: Space, record_fault: RecordFault
) -> None:
    """Half open, as behind a firewall that forgot them: nothing comes, and nothing is closed."""
    operator = launch(server=proxy.url).until_leading()
    space.settle()
    proxy.stall()
    space.apply(version="v2")
    began = time.monotonic()
    # A watch gives up when neither an event nor the API server's bookmark came for 70 s.
    space.until("serves v2", lambda m: m.settled and m.serving == space.digest("v2"), within=110)
    assert time.monotonic() - began > 1, "it was stalled"
    assert operator.running()
    assert operator.leads(), "one hung connection ends no leader"
    record_fault(
        seen="the leader renews its Lease by a new connection; watches are resumed after 70 s of "
        "silence",
        healed=f"by itself: a change was served after {time.monotonic() - began:.0f} s",
    )


# ---- clocks ----


@pytest.mark.parametrize(
    "jump",
    [
        pytest.param(
            jump, id=way, marks=pytest.mark.fault("Operator", f"clock jumped an hour {way}")
        )
        for jump, way in (("+1h", "forward"), ("-1h", "back"))
    ],
)
def test_a_clock_that_jumps_in_the_middle_of_a_rollout_changes_no_verdict(
    jump: str, launch: Launch, space: Space, tmp_path: Path, record_fault: RecordFault
) -> None:
    clock = WallClock(tmp_path)
    operator = launch(environment=clock.environment()).until_leading()
    space.settle()
    space.behave("v2", pod_status.loading)
    space.apply(version="v2")
    space.until("rolls", lambda m: m.reason == "RollingOut")
    clock.set(jump)
    space.behave("v2", _MISMATCH)
    view = space.until("goes back", lambda m: m.stalled == "RolledBack", within=10)
    assert _seconds_ago(view.status["lastFailure"]["time"]) < 15
    # Evidence is told from that of an earlier try by its time.
    space.apply(version="v2", annotations={"slipway.dev/retry": "1"})
    space.eventually(lambda: _told_twice(space, "RolledBack"), within=10)
    space.behave("v2", pod_status.ready)
    clock.set("+0")
    space.apply(version="v2", annotations={"slipway.dev/retry": "2"})
    view = space.until("serves v2", lambda m: m.settled and m.serving == space.digest("v2"))
    assert _seconds_ago(view.status["serving"]["since"]) < 15
    assert operator.running()
    assert operator.leads(), "leases go by the monotonic clock"
    record_fault(
        reason="DigestMismatch",
        seen="evidence, deadlines and times in the status are by the API server's time",
        healed="rolled back at once; tried again and served after the clock was right",
    )


def _seconds_ago(told: str) -> float:
    """How long ago a time was, before or after now."""
    return abs((datetime.now(UTC) - datetime.fromisoformat(told)).total_seconds())


def _told_twice(space: Space, reason: str) -> None:
    assert sum(event["reason"] == reason for event in space.events()) == 2


# ---- a new operator ----

# Loaded by Python before the operator's own modules: its builder then makes other pods.
_ANOTHER_BUILDER = """
from slipway_operator.build import pod

_before = pod.pod_template

def pod_template(*arguments):
    template = _before(*arguments)
    template["spec"]["terminationGracePeriodSeconds"] = 77
    template["spec"]["containers"][0]["env"].append({"name": "BUILDER", "value": "next"})
    return template

pod.pod_template = pod_template
"""


def _next_operator(launch: Launch, pools: Json, folder: Path) -> None:
    """One with another default image and another builder."""
    (folder / "sitecustomize.py").write_text(_ANOTHER_BUILDER)
    images = {name: {**pool, "image": "slipway-runtime:next"} for name, pool in pools.items()}
    environment = {"PYTHONPATH": str(folder)}
    launch("next", environment=environment, pools=images).until_leading()


def _uids(pods: list[Json]) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods}


@pytest.mark.fault("Operator", "upgraded, with another image and another builder")
def test_an_upgrade_restarts_no_pod_and_the_next_version_takes_what_is_new(
    launch: Launch, space: Space, pools: Json, tmp_path: Path, record_fault: RecordFault
) -> None:
    operator = launch().until_leading()
    space.settle(replicas=2)
    pods, deployment = _uids(space.pods()), space.deployment()
    operator.stop()
    _next_operator(launch, pools, tmp_path)
    view = space.until("is outdated", lambda m: m.status.get("outdated") is True)
    assert view.settled
    assert _uids(space.pods()) == pods
    assert space.deployment()["metadata"]["generation"] == deployment["metadata"]["generation"]
    assert len(space.revisions()) == 1
    view = space.settle(version="v2", replicas=2)
    assert "outdated" not in view.status
    (serve,) = space.deployment()["spec"]["template"]["spec"]["containers"]
    assert serve["image"] == "slipway-runtime:next"
    assert {"name": "BUILDER", "value": "next"} in serve["env"]
    record_fault(
        reason="Serving",
        seen="no pod is restarted; status says outdated: true",
        healed="the next version of the model takes the new image and builder",
    )


@pytest.mark.fault("Operator", "upgraded in the middle of a rollout that fails")
def test_an_upgrade_in_the_middle_of_a_rollout_that_fails_goes_back_to_the_very_same_pods(
    launch: Launch, space: Space, pools: Json, tmp_path: Path, record_fault: RecordFault
) -> None:
    operator = launch().until_leading()
    space.settle()
    pods, template = _uids(space.pods()), space.deployment()["spec"]["template"]
    space.behave("v2", pod_status.fetching)
    space.apply(version="v2")
    space.until("rolls", lambda m: m.reason == "RollingOut")
    operator.stop()
    _next_operator(launch, pools, tmp_path)
    space.behave("v2", _MISMATCH)
    view = space.until("went back", lambda m: m.current and m.stalled == "RolledBack")
    assert view.status.get("outdated") is True
    assert space.deployment()["spec"]["template"] == template
    assert _uids(space.pods("v1")) == pods
    assert len(space.replica_sets()) == len(space.revisions()) == 2
    assert space.view(MODEL).serving == space.digest("v1")
    record_fault(
        reason="DigestMismatch",
        seen="the old template is applied as the old operator had built it",
        healed="rolled back to the very same pods",
    )

"""Two operators on one cluster: one writes, and the other takes over in time.

Who wrote is told by the audit log: every process has a token of its own.
"""

from __future__ import annotations

import signal
import time

import pytest
from operator_kit import pod_status
from operator_kit.api import Api
from operator_kit.audit import AuditLog
from operator_kit.eventually import eventually
from operator_kit.installation import NAMESPACE, RELEASE
from operator_kit.operator_process import OperatorProcess
from operator_kit.space import MODEL, Space

from .conftest import Launch, RecordFault

_LEASE_SECONDS = 4.0


def _two(launch: Launch) -> tuple[OperatorProcess, OperatorProcess]:
    """A leader, and another whose view of the cluster is complete."""
    leader = launch("first").until_leading()
    other = launch("second").until_ready()
    assert not other.leads()
    return leader, other


def _seconds_until_healed(space: Space) -> float:
    """Delete the Service, and wait for a new one: somebody must lead for that."""
    began = time.monotonic()
    old = space.child("services")["metadata"]["uid"]
    space.api.delete("services", space.namespace, MODEL)

    def new() -> None:
        assert space.child("services")["metadata"]["uid"] != old

    space.eventually(new, within=20)
    return time.monotonic() - began


def test_only_the_leader_writes(launch: Launch, space: Space, audit: AuditLog) -> None:
    leader, other = _two(launch)
    mark = audit.mark()
    space.settle(replicas=2)
    space.settle(replicas=2, version="v2")
    assert audit.writes(mark, leader.credential)
    assert not audit.writes(mark, other.credential)
    assert other.metric("slipway_operator_models") >= 1, "its view is warm"


def test_a_leader_that_is_told_to_stop_hands_over_within_two_seconds(
    launch: Launch, space: Space, audit: AuditLog
) -> None:
    leader, other = _two(launch)
    space.settle()
    mark = audit.mark()
    began = time.monotonic()
    leader.signal(signal.SIGTERM)
    healed = _seconds_until_healed(space)
    assert time.monotonic() - began < 2.0, f"healed after {healed:.1f} s"
    assert leader.exit_code() == 0
    assert other.leads()
    first = audit.writes(mark, other.credential)[0]
    late = [r for r in audit.writes(mark, leader.credential) if r.time >= first.time]
    assert not late, f"never two at a time; the new leader began at {first.time}"


def test_a_leader_that_is_killed_is_replaced_when_its_lease_has_run_out(
    launch: Launch, space: Space, audit: AuditLog
) -> None:
    leader, other = _two(launch)
    space.settle()
    leader.kill()
    assert _seconds_until_healed(space) < _LEASE_SECONDS + 2.0
    assert other.leads()


@pytest.mark.fault("Operator", "leader stopped past its Lease, then continued")
def test_a_leader_that_slept_past_its_lease_writes_nothing_more_and_ends(
    launch: Launch, space: Space, audit: AuditLog, record_fault: RecordFault
) -> None:
    leader, other = _two(launch)
    space.settle()
    space.behave("v2", pod_status.fetching)
    leader.signal(signal.SIGSTOP)
    # Work that waits for it in its sockets when it wakes up.
    space.apply(version="v2")
    space.api.delete("services", space.namespace, MODEL)
    other.until_leading(within=_LEASE_SECONDS + 5)
    space.until("is worked on by the other", lambda m: m.current and m.reason == "RollingOut")
    mark = audit.mark()
    leader.signal(signal.SIGCONT)
    assert leader.exit_code() == 1
    written = [
        request
        for request in audit.since(mark, leader.credential)
        if request.verb not in ("get", "list", "watch") and request.code < 300
    ]
    assert not written
    space.behave("v2", pod_status.ready)
    space.until("is served", lambda m: m.settled and m.serving == space.digest("v2"))
    record_fault(
        seen="another leads; the one that slept writes nothing when it wakes up, and ends",
        healed="by itself",
    )


def test_a_restarted_operator_waits_for_the_lease_of_the_one_before(
    launch: Launch, space: Space
) -> None:
    launch("first").until_leading().kill()
    again = launch("second").until_ready()
    assert not again.leads()
    again.until_leading(within=_LEASE_SECONDS + 3)
    space.settle()


def test_an_operator_that_cannot_reach_its_lease_stops_leading(launch: Launch, api: Api) -> None:
    """Somebody else holds it by force: the process ends, and its restart waits in line."""
    leader = launch("first").until_leading()

    def taken() -> None:
        lease = api.get("leases", NAMESPACE, RELEASE)
        assert lease is not None
        lease["spec"]["holderIdentity"] = "somebody-else"
        api.request(
            "PUT",
            f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{RELEASE}",
            body=lease,
        )

    # A renewal in between answers with a conflict.
    eventually(taken, within=5)
    assert leader.exit_code() == 1
    lease = api.get("leases", NAMESPACE, RELEASE)
    assert lease is not None
    assert lease["spec"]["holderIdentity"] == "somebody-else"
    api.delete("leases", NAMESPACE, RELEASE)

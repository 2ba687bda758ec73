"""Another controller fights over a field of a child: named, given way to, and tried again."""

from __future__ import annotations

import time

import pytest
from operator_kit.audit import AuditLog
from operator_kit.others import FIELD, RIVAL, Rival
from operator_kit.space import Space

from .conftest import Launch, RecordFault

BACKOFF = 6.0


@pytest.mark.fault("People", "another controller fights over a field")
def test_a_fight_is_told_with_the_rivals_name_costs_few_writes_and_ends_with_it(
    launch: Launch, space: Space, audit: AuditLog, record_fault: RecordFault
) -> None:
    operator = launch(conflictBackoffSeconds=BACKOFF).until_leading()
    space.settle()
    mark = audit.mark()
    with Rival(space):
        began = time.monotonic()
        view = space.until("tells the fight", lambda m: m.stalled == "FieldConflict", within=10)
        seconds = time.monotonic() - began
        assert f"'{RIVAL}' keeps changing spec.{FIELD} of the Deployment" in view.message
        assert view.condition("Available")["status"] == "True"
        applied = [
            request
            for request in audit.writes(mark, operator.credential)
            if request.resource == "deployments" and request.namespace == space.namespace
        ]
        assert len([r for r in applied if r.code < 300]) <= 4
        space.eventually(lambda: _told(space))
        # A new version is rolled out all the same.
        space.apply(version="v2")
        digest = space.digest("v2")
        space.until("serves v2", lambda m: m.status.get("serving", {}).get("digest") == digest)
    space.until("has healed", lambda m: m.settled, within=4 * BACKOFF)
    assert space.deployment()["spec"].get(FIELD, 0) == 0
    record_fault(
        reason="FieldConflict",
        seen="the other manager and the field are named; after three times the field is left alone",
        seconds=seconds,
        healed="by itself once the other left the field alone",
    )


def _told(space: Space) -> None:
    """The Event has the words of the status."""
    told = [e["message"] for e in space.events() if e["reason"] == "FieldConflict"]
    assert any(RIVAL in message for message in told), told

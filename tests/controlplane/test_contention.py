"""Another controller fights over a field of a child: named, given way to, and tried again."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from operator_kit.api import ApiError
from operator_kit.audit import AuditLog
from operator_kit.space import MODEL, Space

from .conftest import Launch, RecordFault

BACKOFF = 6.0
FIELD = "minReadySeconds"


class Rival:
    """Sets one field of the Deployment whenever it is not as it wants."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Rival:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        space = self._space
        while not self._stop.wait(0.1):
            if space.deployment()["spec"].get(FIELD) == 3:
                continue
            patch: dict[str, Any] = {"spec": {FIELD: 3}}
            try:
                space.api.patch("deployments", space.namespace, MODEL, patch, manager="the-rival")
            except ApiError as error:
                if error.status != 409:
                    raise


@pytest.fixture
def rival(space: Space) -> Iterator[Rival]:
    made = Rival(space)
    yield made
    made.stop()


@pytest.mark.fault("People", "another controller fights over a field")
def test_a_fight_is_told_with_the_rivals_name_costs_few_writes_and_ends_with_it(
    launch: Launch, space: Space, rival: Rival, audit: AuditLog, record_fault: RecordFault
) -> None:
    operator = launch(conflictBackoffSeconds=BACKOFF).until_leading()
    space.settle()
    mark = audit.mark()
    rival.start()
    began = time.monotonic()
    view = space.until("tells the fight", lambda m: m.stalled == "FieldConflict", within=10)
    seconds = time.monotonic() - began
    assert "'the-rival' keeps changing spec.minReadySeconds of the Deployment" in view.message
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
    rival.stop()
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
    assert any("the-rival" in message for message in told), told

"""What holds for every test."""

from __future__ import annotations

import signal

import pytest
from fault_record import FaultRecord, RecordFault


def pytest_configure() -> None:
    """Let children be interrupted: what a shell runs in the background ignores SIGINT."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def record_fault(request: pytest.FixtureRequest) -> RecordFault:
    """For the end of a test with the marker ``fault(group, fault)``; see `fault_record`."""
    marker = request.node.get_closest_marker("fault")
    assert marker is not None, "a test that records a fault is marked fault(group, fault)"
    group, fault = marker.args

    def record(
        *,
        seen: str,
        healed: str,
        reason: str = "",
        seconds: float | None = None,
        sent: int = 0,
        failed: int = 0,
    ) -> None:
        rounded = None if seconds is None else round(seconds, 1)
        row = FaultRecord(group, fault, reason, seen, rounded, sent, failed, healed)
        row.write()
        request.node.user_properties.append(("fault", str(row)))

    return record

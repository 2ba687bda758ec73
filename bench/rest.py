"""What the operator costs while nothing changes."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from latency import is_ready, over_rounds, post_all
from operator_kit.api import Unreachable
from operator_kit.audit import AuditLog
from operator_kit.operator_process import OperatorProcess
from operator_kit.space import Space

from slipway_dev.console import step

Json = dict[str, Any]

_SETTLING_SECONDS = 20.0
IDLE_SECONDS = 45.0


def fill(
    space: Space, operator: OperatorProcess, prefix: str, models: int, within: float = 900.0
) -> None:
    """Create so many models and wait until all are Ready."""
    names = [f"{prefix}-{number}" for number in range(models)]
    with step(f"{models} models") as detail:
        post_all(space, names)
        until_ready(space, operator, set(names), within, detail)


def until_ready(
    space: Space,
    operator: OperatorProcess,
    names: set[str],
    within: float,
    detail: Callable[[str], None],
) -> None:
    """Wait until all of these models are Ready in their present generation."""
    deadline = time.monotonic() + within
    while True:
        assert operator.running(), f"the operator ended\n{operator.tail()}"
        with contextlib.suppress(Unreachable):  # a busy machine
            models = space.api.list("modeldeployments", space.namespace)
            waiting = [m for m in models if m["metadata"]["name"] in names and not is_ready(m)]
            detail(f"{len(waiting)} are not Ready yet")
            if not waiting and len(models) >= len(names):
                return
        assert time.monotonic() < deadline, f"not all are Ready within {within:g} s"
        # A list of thousands keeps the API server busy for a second.
        time.sleep(max(1.0, len(names) / 250))


def memory(space: Space, operator: OperatorProcess) -> Json:
    """Resident memory, a while after the last change."""
    with step("Come to rest"):
        time.sleep(_SETTLING_SECONDS)
    return {
        "models": len(space.api.list("modeldeployments", space.namespace)),
        "pods": len(space.api.list("pods", space.namespace)),
        "rss_mib": round(operator.resident_bytes() / 2**20, 1),
    }


def quiet(audit: AuditLog, operator: OperatorProcess, minutes: float) -> Json:
    """What it asks of the API server, and of the processor, in parts of 45 seconds."""
    mark, cpu, began = audit.mark(), operator.cpu_seconds(), time.monotonic()
    parts: list[float] = []
    with step(f"{minutes:g} quiet minutes") as detail:
        while (left := 60 * minutes - (time.monotonic() - began)) > 0:
            before = operator.cpu_seconds()
            time.sleep(min(IDLE_SECONDS, left))
            if left >= IDLE_SECONDS:
                parts.append(operator.cpu_seconds() - before)
            detail(f"{time.monotonic() - began:.0f} s")
    spent = operator.cpu_seconds() - cpu
    asked = audit.since(mark, operator.credential)
    writes = audit.writes(mark, operator.credential)
    leases = [r for r in asked if r.resource == "leases" and r.verb == "update"]
    return {
        "minutes": minutes,
        "writes": len(writes),
        "writes_by_kind": dict(Counter(f"{r.verb} {r.resource}" for r in writes)),
        "lease_renewals": len(leases),
        "reads_by_verb": dict(Counter(r.verb for r in asked if r.verb in ("get", "list", "watch"))),
        "cpu_seconds": round(spent, 2),
        "cpu_millicores": round(1000 * spent / (60 * minutes), 2),
        "cpu_seconds_in_45_s": over_rounds(parts) if parts else None,
        "rss_mib": round(operator.resident_bytes() / 2**20, 1),
    }

"""The conditions of a ModelDeployment, exactly as kstatus reads them.

| situation | Ready | Reconciling | Stalled | Available |
|---|---|---|---|---|
| first rollout | False | True | - | False |
| rolling, something answers | Unknown | True | - | True |
| failed (rolled back, held, refused) | False | - | True | observed |
| served, but not all that was asked for can be had | False | - | True | observed |
| complete | True | - | - | True |
| complete, then no pod left | False | True | - | False |
| scaled to zero | True | - | - | False |

Reconciling and Stalled are left out rather than set to False, as kstatus recommends, and are never
both present.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from slipway_operator.api.model_deployment import Json

Status = Literal["True", "False", "Unknown"]

READY = "Ready"
RECONCILING = "Reconciling"
STALLED = "Stalled"
AVAILABLE = "Available"
ARTIFACT_VERIFIED = "ArtifactVerified"

AS_ASKED = ("Serving", "RollbackRequested", "ScaledToZero")
"""Reasons of Ready where nothing is missing; True with another one means that pods are."""


class Situation(Enum):
    """Where a ModelDeployment stands; each maps to one row of the table."""

    PROGRESSING = "progressing"
    """On the way to the target: first rollout, a later one, or pods being replaced."""

    FAILED = "failed"
    """Nothing more happens until a user acts or the cause goes away."""

    COMPLETE = "complete"
    """The target is served, or was and lost some of its pods."""

    INCOMPLETE = "incomplete"
    """The target is served, but something else that the spec asks for cannot be had here."""

    SCALED_TO_ZERO = "scaled to zero"
    """As asked, with no pod."""


@dataclass(frozen=True)
class Verdict:
    """What the conditions say.

    Attributes:
        situation: the row of the table.
        reason: CamelCase word a program can act on; the reason of Ready.
        message: what a person should know.
        available: whether something answers requests now.
        verified: of ArtifactVerified: the status, its reason and its message.
        stalled_reason: reason of Stalled where it differs from that of Ready.
    """

    situation: Situation
    reason: str
    message: str
    available: bool
    verified: tuple[Status, str, str]
    stalled_reason: str | None = None


def conditions(verdict: Verdict, generation: int, previous: list[Json], now: str) -> list[Json]:
    """Render a verdict; ``lastTransitionTime`` moves only where a status changes.

    Args:
        verdict: what to say.
        generation: the ModelDeployment's own generation.
        previous: the conditions in its status.
        now: RFC 3339 time.
    """
    reason, message = verdict.reason, verdict.message
    answering: Status = "True" if verdict.available else "False"
    rows: list[tuple[str, Status, str, str]]
    match verdict.situation:
        case Situation.PROGRESSING:
            ready: Status = "Unknown" if verdict.available else "False"
            rows = [(READY, ready, reason, message), (RECONCILING, "True", reason, message)]
        case Situation.FAILED | Situation.INCOMPLETE:
            rows = [
                (READY, "False", reason, message),
                (STALLED, "True", verdict.stalled_reason or reason, message),
            ]
        case Situation.COMPLETE if not verdict.available:
            rows = [(READY, "False", reason, message), (RECONCILING, "True", reason, message)]
        case Situation.COMPLETE | Situation.SCALED_TO_ZERO:
            rows = [(READY, "True", reason, message)]
    rows.append(
        (AVAILABLE, "True", "Serving", "requests are answered")
        if answering == "True"
        else (AVAILABLE, "False", "NothingReady", "no pod is ready to answer requests")
    )
    rows.append((ARTIFACT_VERIFIED, *verdict.verified))
    before = {condition["type"]: condition for condition in previous}
    return [
        {
            "type": kind,
            "status": status,
            "reason": why,
            "message": text,
            "lastTransitionTime": (
                before[kind]["lastTransitionTime"]
                if kind in before and before[kind]["status"] == status
                else now
            ),
            "observedGeneration": generation,
        }
        for kind, status, why, text in rows
    ]


def find(conditions: list[Json], kind: str) -> Json:
    """The condition of that type, or an empty one."""
    empty: Json = {}
    return next((c for c in conditions if c["type"] == kind), empty)

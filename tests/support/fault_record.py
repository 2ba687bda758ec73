"""What a test saw of one fault: a row of docs/faults.md.

A test (or one of its parameters) carries the marker ``fault(group, fault)`` and ends by calling the
fixture ``record_fault``. ``make faults-page`` keeps what the last run recorded and writes the page;
``make check-generated`` fails where a marked test has no recorded row, or a row no test.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from slipway_operator.api.reasons import CLASS_OF, Reason

GROUPS = ("Artifact", "Cluster", "Operator", "People")
FOLDER = Path(__file__).resolve().parents[2] / ".tools" / "results" / "faults"


@dataclass(frozen=True)
class FaultRecord:
    """One row.

    Attributes:
        group: one of GROUPS.
        fault: what went wrong, in a few words; unique within its group.
        reason: what the status gave as the reason of Ready; empty where nothing was to be told.
        seen: the essence of what status and Events said, or of what happened.
        seconds: from the fault until the status named it; None where nothing was to be told.
        sent: requests sent at steady load to the version that was serving.
        failed: those of them that got no good answer.
        healed: how it went on: "rolled back", "by itself once the Secret was there", …
    """

    group: str
    fault: str
    reason: str
    seen: str
    seconds: float | None
    sent: int
    failed: int
    healed: str

    def __post_init__(self) -> None:
        if self.group not in GROUPS:
            raise ValueError(f"{self.group!r} is none of {', '.join(GROUPS)}")

    @property
    def failure_class(self) -> str:
        """The class of the reason in the operator's table, or "-" for what is no failure."""
        known = {reason.value: failure_class for reason, failure_class in CLASS_OF.items()}
        return known[self.reason].lower() if self.reason in set(Reason) else "-"

    def write(self, folder: Path = FOLDER) -> Path:
        """Write the row as a JSON file of its own; a later run of the same test replaces it."""
        folder.mkdir(parents=True, exist_ok=True)
        words = re.sub(r"[^a-z0-9]+", "-", f"{self.group} {self.fault}".lower()).strip("-")
        file = folder / f"{words}.json"
        row = {**asdict(self), "failure_class": self.failure_class}
        file.write_text(json.dumps(row, indent=2) + "\n")
        return file


class RecordFault(Protocol):
    """Writes the row of docs/faults.md that the test's marker ``fault`` names."""

    def __call__(
        self,
        *,
        seen: str,
        healed: str,
        reason: str = "",
        seconds: float | None = None,
        sent: int = 0,
        failed: int = 0,
    ) -> None: ...

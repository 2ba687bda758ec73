"""docs/faults.md: what was seen of every fault when it was last brought in on purpose."""

import json
from pathlib import Path
from typing import Any

import markdown_table

RECORDED = "bench/results/faults.json"

_INTRO = """\
<!-- Generated from bench/results/faults.json by `make generate`. Do not edit. -->
# What can go wrong, and what is seen of it

Every row is a test that brings the fault in on purpose while a good version serves under steady
load, and a record of what it saw: artifact and cluster faults on a real node with the images of
this repository and a real S3 server (`tests/e2e`), those of the operator and of people on a real
API server (`tests/controlplane`). `make faults-page` renews it after a run of the tests.

- **Reason** is that of the condition Ready; `slipway_operator_rollouts_total` uses the same words,
  and so do Events, but for the end of a failed rollout: `RolledBack` or `RolloutHeld`, with the
  reason's sentence in the message.
- **Class** says what a rollout does about it. *Intrinsic*: failed at the first evidence.
  *Environmental*: named at once, failed only at the deadline, heals when the cause goes.
  *Ambiguous*: failed after some restarts. *-*: no failure of a rollout.
- **Named** is the time from the fault until the status names it, on two cores shared by the whole
  cluster, the clients and the other rows of the table.
- **Sent** and **failed** are the requests to the version that served before the fault.
"""

_HEADER = ("Fault", "Reason", "Class", "What was seen", "Named", "Sent", "Failed", "How it went on")


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    named = "-" if row["seconds"] is None else f"{row['seconds']:.1f} s"
    return (
        row["fault"],
        f"`{row['reason']}`" if row["reason"] else "-",
        row["failure_class"],
        row["seen"],
        named,
        f"{row['sent']:,}" if row["sent"] else "-",
        str(row["failed"]) if row["sent"] else "-",
        row["healed"],
    )


def render(root: Path) -> str:
    """The page's text."""
    rows: list[dict[str, Any]] = json.loads((root / RECORDED).read_text())
    sent, failed = (sum(row[key] for row in rows) for key in ("sent", "failed"))
    dates = sorted({row["date"] for row in rows})
    when = f" ({' to '.join(dict.fromkeys((dates[0], dates[-1])))})" if dates else ""
    text = f"{_INTRO}\n**{len(rows)} faults, {sent:,} requests sent, {failed} failed**{when}.\n"
    for group in sorted({row["group"] for row in rows}):
        ours = [row for row in rows if row["group"] == group]
        text += f"\n## {group}\n\n{markdown_table.table(_HEADER, map(_row, ours))}"
    return text

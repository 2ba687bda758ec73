"""How the outcome of a comparison is reported."""

from __future__ import annotations

from typing import Any

from slipway import terminal
from slipway.validation.check import Outcome
from slipway.validation.compare import Tolerance, worst


def as_json(outcome: Outcome, tolerance: Tolerance, divergence: str = "") -> dict[str, Any]:
    """Return the outcome as a JSON document."""
    return {
        "comparedWith": outcome.compared_with,
        "tolerance": vars(tolerance),
        "close": outcome.close,
        "cases": len(outcome.cases),
        "worst": [item.as_json() for item in worst(outcome.differences)],
        "differences": [item.as_json() for item in outcome.differences],
        **({"firstDivergence": divergence} if divergence else {}),
    }


def show(outcome: Outcome) -> None:
    """Print one line for each output: its worst case."""
    terminal.print_table(
        ("output", "max abs", "max rel", "worst case", ""),
        [
            (
                item.output,
                f"{item.absolute:.3g}",
                f"{item.relative:.3g}",
                item.case,
                "ok" if item.close else f"DIFFERS {item.problem}".rstrip(),
            )
            for item in worst(outcome.differences)
        ],
        title=f"{len(outcome.cases)} cases, compared with {outcome.compared_with}",
    )

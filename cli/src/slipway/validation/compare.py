"""The difference between what two computations gave. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slipway.model.signature import Array


@dataclass(frozen=True)
class Tolerance:
    """Values are close when |a - b| <= absolute + relative * |b|, b being the reference.

    For whole numbers, which may be classes or tokens, the relative part does not count.
    """

    relative: float = 1e-3
    absolute: float = 1e-5


@dataclass(frozen=True)
class Difference:
    """How far one output of one case is from the reference.

    ``relative`` divides by the reference, or by the absolute tolerance where that is larger. For
    text and booleans ``absolute`` is the number of elements that differ. ``largest`` is the largest
    absolute value of a reference that is fractions, else 0.
    """

    case: str
    output: str
    absolute: float
    relative: float
    close: bool
    problem: str = ""
    largest: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON; a difference that is not finite is null."""
        return {
            "case": self.case,
            "output": self.output,
            "maxAbsolute": self.absolute if np.isfinite(self.absolute) else None,
            "maxRelative": self.relative if np.isfinite(self.relative) else None,
            "close": self.close,
            **({"problem": self.problem} if self.problem else {}),
        }


def differences(
    case: str, actual: Mapping[str, Array], reference: Mapping[str, Array], tolerance: Tolerance
) -> list[Difference]:
    """Compare every output of the reference; one that is missing differs."""
    found: list[Difference] = []
    for name, wanted in reference.items():
        if name not in actual:
            found.append(_apart(case, name, "it is missing"))
        else:
            found.append(difference(case, name, actual[name], wanted, tolerance))
    return found


def difference(
    case: str, output: str, actual: Array, wanted: Array, tolerance: Tolerance
) -> Difference:
    """Compare one output; NaN equals NaN and infinity itself."""
    if actual.shape != wanted.shape:
        return _apart(case, output, f"shape {list(actual.shape)}, not {list(wanted.shape)}")
    if actual.dtype.kind in "OUSb" or wanted.dtype.kind in "OUSb":
        count = int(np.count_nonzero(np.asarray(actual != wanted)))
        share = count / max(actual.size, 1)
        problem = f"{count} of {actual.size} elements differ" if count else ""
        return Difference(case, output, float(count), share, count == 0, problem)
    left, right = actual.astype(np.float64), wanted.astype(np.float64)
    whole = actual.dtype.kind in "iu" and wanted.dtype.kind in "iu"
    # Beyond 2**53 doubles would call different numbers the same.
    same = actual == wanted if whole else (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        apart = np.where(same, 0.0, np.abs(left - right))
        apart = np.where(np.isnan(apart), np.inf, apart)
        apart = np.where(same, 0.0, np.maximum(apart, 1.0)) if whole else apart
        relative = np.where(same, 0.0, apart / np.maximum(np.abs(right), tolerance.absolute))
        limit = tolerance.absolute + (0.0 if whole else tolerance.relative) * np.abs(right)
        close = bool(np.all(same | (np.isfinite(apart) & (apart <= limit))))
    lost = int(np.count_nonzero(np.isfinite(right) & ~np.isfinite(left)))
    problem = f"{lost} values are not finite, the reference's are" if lost else ""
    finite = np.abs(right[np.isfinite(right)])
    return Difference(
        case,
        output,
        float(np.max(apart, initial=0.0)),
        float(np.max(relative, initial=0.0)),
        close,
        problem,
        0.0 if whole else float(np.max(finite, initial=0.0)),
    )


def worst(found: Sequence[Difference]) -> list[Difference]:
    """Return the worst case of each output, in the order of the outputs."""
    by_output: dict[str, Difference] = {}
    for item in found:
        known = by_output.get(item.output)
        if known is None or (item.close, -item.absolute) < (known.close, -known.absolute):
            by_output[item.output] = item
    return list(by_output.values())


def _apart(case: str, output: str, problem: str) -> Difference:
    return Difference(case, output, float("inf"), float("inf"), False, problem)

"""Whether an exported estimator answers samples otherwise since its datatype rounds them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slipway.errors import SlipwayError
from slipway.export.attempt import Exportable
from slipway.validation import check
from slipway.validation.cases import Case
from slipway.validation.compare import Tolerance

_TAKE_ANY_NUMBERS = ("scikit-learn",)


def warnings(
    path: Path, exportable: Exportable, cases: Sequence[Case], tolerance: Tolerance
) -> list[str]:
    """Compare with what the original makes of samples before they are rounded.

    Differences are reported and are no failure: the file does the same as the original with what it
    is given. Other models than estimators take no other datatype than the file does.
    """
    if exportable.framework not in _TAKE_ANY_NUMBERS:
        return []
    rounded = [case for case in cases if case.unrounded]
    return [_told(case) for case in rounded if _differs(path, exportable, case, tolerance)]


def _differs(path: Path, exportable: Exportable, case: Case, tolerance: Tolerance) -> bool:
    try:
        expected = exportable.reference({**case.inputs, **case.unrounded})
    except SlipwayError:
        return False
    known = Case(case.label, case.inputs, expected)
    compared = (path, [known], exportable.reference, "", tolerance, exportable.choices)
    return not check.compare(*compared).close


def _told(case: Case) -> str:
    name = next(iter(case.unrounded))
    before, after = case.unrounded[name].dtype, case.inputs[name].dtype
    wider = " ".join(
        f"--input {other}=FP64[batch,{case.inputs[other].shape[-1]}]" for other in case.unrounded
    )
    return (
        f"{case.label} has {before}, the file takes {after}, and of what is rounded to that some is"
        f" answered otherwise: a file for {wider} rounds nothing"
    )

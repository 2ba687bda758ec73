"""Whether an exported estimator makes the same of missing values (NaN) as the original does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from slipway.errors import SlipwayError
from slipway.export.attempt import Exportable
from slipway.model.signature import Array
from slipway.model.tensor import Tensor
from slipway.validation import check
from slipway.validation.cases import Case
from slipway.validation.compare import Tolerance

_TAKE_ROWS = ("scikit-learn",)
_ROWS_PER_COLUMN = 4
_MOST_ROWS = 512
PROPERTY = "missing"
"""Metadata of a file that computes the same as the original where numbers are missing."""
TAKEN_AS_NAN = "nan"
DIFFERS = (
    "the original takes missing values (NaN), and the file answers otherwise where there are some:"
    " fill them in before, as by a SimpleImputer at the head of the pipeline"
)


def same(
    path: Path, exportable: Exportable, cases: Sequence[Case], tolerance: Tolerance
) -> bool | None:
    """Return whether the file answers rows of the cases with holes in them as the original does.

    None for an estimator that takes no missing values, and for models other than estimators, which
    are not tried with any.
    """
    if exportable.framework not in _TAKE_ROWS:
        return None
    numbers = [tensor for tensor in exportable.inputs if tensor.datatype in ("FP32", "FP64")]
    # Encoders take no gaps in their categories.
    free = [tensor for tensor in numbers if not tensor.typical]
    for columns in (numbers, free):
        found = _same(path, exportable, cases, tolerance, columns)
        if found is not None:
            return found
    return None


def _same(
    path: Path,
    exportable: Exportable,
    cases: Sequence[Case],
    tolerance: Tolerance,
    columns: Sequence[Tensor],
) -> bool | None:
    holes = _with_holes([case.inputs for case in cases], columns)
    if holes is None:
        return None
    try:
        known = Case("missing values", holes, exportable.reference(holes))
    except SlipwayError:
        return None
    compared = (path, [known], exportable.reference, "", tolerance, exportable.choices)
    return check.compare(*compared).close


def _with_holes(
    feeds: Sequence[Mapping[str, Array]], inputs: Sequence[Tensor]
) -> dict[str, Array] | None:
    """Return rows of the feeds with one number missing in each, None where there is none to miss.

    Every column of these inputs lacks it as often, as far as rows go.
    """
    columns = [(tensor.name, place) for tensor in inputs for place in range(_width(tensor))]
    rows = {name: np.concatenate([feed[name] for feed in feeds]) for name in (feeds or ({},))[0]}
    if not columns or not all(map(len, rows.values())):
        return None
    count = min(_ROWS_PER_COLUMN * len(columns), _MOST_ROWS)
    chosen = {name: array[np.arange(count) % len(array)].copy() for name, array in rows.items()}
    for row in range(count):
        name, place = columns[row % len(columns)]
        chosen[name][row, place] = np.nan
    return chosen


def _width(tensor: Tensor) -> int:
    size = (tensor.shape or (0,))[-1]
    return size if isinstance(size, int) else 0

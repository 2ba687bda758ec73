"""Whether an exported estimator makes the same of missing values (NaN) as the original does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from slipway.errors import SlipwayError
from slipway.export.attempt import Exportable
from slipway.model.signature import Array
from slipway.validation import check
from slipway.validation.cases import Case
from slipway.validation.compare import Tolerance

_TAKE_ROWS = ("scikit-learn",)
_ROWS_PER_COLUMN = 4
_MOST_ROWS = 512
_DIFFERS = (
    "the original takes missing values (NaN), and the file answers otherwise where there are some:"
    " fill them in before, as by a SimpleImputer at the head of the pipeline"
)


def warnings(
    path: Path, exportable: Exportable, cases: Sequence[Case], tolerance: Tolerance
) -> list[str]:
    """Compare on rows of the cases with holes in them; what differs is told, and no failure.

    Nothing is told of an estimator that takes no missing values, nor of other models than
    estimators: they are not asked with any.
    """
    holes = _with_holes([case.inputs for case in cases])
    if exportable.framework not in _TAKE_ROWS or holes is None:
        return []
    case = Case("missing values", holes)
    try:
        expected = exportable.reference(case.inputs)
    except SlipwayError:
        return []
    outcome = check.compare(path, [case], lambda _: expected, "", tolerance)
    if outcome.close:
        return []
    return [_DIFFERS]


def _with_holes(feeds: Sequence[Mapping[str, Array]]) -> dict[str, Array] | None:
    """Return rows of the one matrix of floats that all feeds have, with one value missing in each.

    Every column lacks it as often, as far as rows go.
    """
    (name,) = feeds[0] if feeds and len(feeds[0]) == 1 else ("",)
    matrices = [feed[name] for feed in feeds if name]
    if not matrices or any(m.ndim != 2 or m.dtype.kind != "f" for m in matrices):  # noqa: PLR2004
        return None
    rows = np.concatenate(matrices)
    if not rows.size:
        return None
    count = min(_ROWS_PER_COLUMN * rows.shape[1], _MOST_ROWS)
    chosen = rows[np.arange(count) % len(rows)].copy()
    chosen[np.arange(count), np.arange(count) % rows.shape[1]] = np.nan
    return {name: chosen}

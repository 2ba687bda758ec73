"""What variants are calibrated and compared on: rows of arrays, cut into batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slipway.errors import InvalidArguments
from slipway.model.signature import Array
from slipway.model.tensor import Tensor
from slipway.validation import cases
from slipway.validation.cases import Plan

LABELS = "labels"
_RANDOM_SEEDS = range(8)


@dataclass(frozen=True)
class Data:
    """Batches of inputs, where they come from, and for labelled data the class of each row."""

    origin: str
    batches: Sequence[Mapping[str, Array]]
    labels: Array | None = None

    @property
    def random(self) -> bool:
        """Whether nobody gave it."""
        return not self.origin


def given(path: Path, inputs: Sequence[Tensor], batch_size: int) -> Data:
    """Read rows from an .npz file: arrays by input name, and ``labels`` where there are any.

    Raises:
        NotFound: there is no such file.
        InvalidArguments: names, datatypes or numbers of rows do not fit the model.
    """
    label = Tensor(LABELS, "INT64", ("rows",))
    case = cases.given(path, inputs, (label,))
    labels = case.expected.get(LABELS)
    counts = {name: len(array) if array.ndim else 0 for name, array in case.inputs.items()}
    if labels is not None:
        counts[LABELS] = len(labels)
    rows = min(counts.values())
    if rows == 0 or len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InvalidArguments(
            f"{path}: all arrays must have the same number of rows, these have {listed}",
            "the first dimension counts the rows",
        )
    step = _rows_of_a_run(inputs, min(batch_size, rows))
    if rows < step:
        raise InvalidArguments(
            f"{path} has {rows} rows, and the model takes {step} at once", f"give at least {step}"
        )
    whole = rows // step * step if _fixed(inputs) else rows
    batches = [
        {name: array[start : start + step] for name, array in case.inputs.items()}
        for start in range(0, whole, step)
    ]
    return Data(str(path), batches, None if labels is None else labels[:whole])


def made(inputs: Sequence[Tensor], plan: Plan, batch_size: int) -> Data:
    """Make random rows. Raises InvalidArguments where an input cannot be made."""
    wanted = Plan((batch_size,), _RANDOM_SEEDS, plan.dimensions, plan.ranges, edges=False)
    return Data("", [case.inputs for case in cases.made(inputs, wanted)])


def first_rows(data: Data, inputs: Sequence[Tensor], count: int) -> dict[str, Array]:
    """Return ``count`` rows for timing: the first ones, repeated where there are fewer."""
    step = _rows_of_a_run(inputs, count)
    batch = data.batches[0]
    if not any(tensor.batch for tensor in inputs):
        return dict(batch)
    return {
        tensor.name: np.ascontiguousarray(np.resize(array, (step, *array.shape[1:])))
        if tensor.batch
        else array
        for tensor, array in ((tensor, batch[tensor.name]) for tensor in inputs)
    }


def _fixed(inputs: Sequence[Tensor]) -> bool:
    return any(tensor.shape and isinstance(tensor.shape[0], int) for tensor in inputs)


def _rows_of_a_run(inputs: Sequence[Tensor], wanted: int) -> int:
    """Return the fixed first dimension where there is one."""
    fixed = [t.shape[0] for t in inputs if t.shape and isinstance(t.shape[0], int)]
    return next((size for size in fixed if size > 0), wanted)

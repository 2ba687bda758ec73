"""What to do about a file that differs from its original, as far as its cases suggest it. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from slipway.model.signature import DTYPES
from slipway.model.tensor import Tensor
from slipway.validation.cases import EDGES, Case
from slipway.validation.check import Outcome
from slipway.validation.compare import Tolerance


def suggested(outcome: Outcome, inputs: Sequence[Tensor], tolerance: Tolerance) -> list[str]:
    """Return what may mend it: nothing where the differences have no pattern that is known."""
    failed = [item for item in outcome.differences if not item.close]
    if not failed:
        return []
    labels = {item.case for item in failed}
    found = list(_frozen(outcome.cases, labels, inputs))
    if all(0 < item.absolute <= tolerance.relative * item.largest for item in failed):
        apart = max(item.absolute for item in failed)
        largest = max(item.largest for item in failed)
        found.append(
            f"--atol {_rounded_up(apart)}, if that is nothing to you: they are apart by {apart:.2g}"
            f" beside values up to {largest:.2g}"
        )
    elif labels <= {label for label, _ in EDGES} and (name := _first_floats(inputs)):
        found.append(
            f"--range {name}=-3:3, if values are never all alike: no other inputs differ, and among"
            " equal values a choice is free"
        )
    return found


def _frozen(cases: Sequence[Case], failed: set[str], inputs: Sequence[Tensor]) -> Iterator[str]:
    """Yield dimensions of which all cases of one size agree, and of others differ."""
    for tensor in inputs:
        for axis, symbol in enumerate(tensor.shape or ()):
            if not isinstance(symbol, str):
                continue
            size = {case.label: case.inputs[tensor.name].shape[axis] for case in cases}
            right = set(size.values()) - {size[label] for label in failed}
            wrong = set(size.values()) - {size[label] for label in size.keys() - failed}
            if len(right) != 1 or not wrong:
                continue
            fixed = ",".join(
                str(min(right)) if place == axis else str(other)
                for place, other in enumerate(tensor.shape or ())
            )
            yield (
                f"it is right for {symbol} {min(right)} alone: write what goes over {symbol} (as a"
                " loop does, which exporters unroll) with tensor operations, or fix its size:"
                f" --input {tensor.name}={tensor.datatype}[{fixed}]"
            )


def _first_floats(inputs: Sequence[Tensor]) -> str:
    floats = (t.name for t in inputs if t.datatype in DTYPES and DTYPES[t.datatype].kind == "f")
    return next(floats, "")


def _rounded_up(value: float) -> str:
    """Return a number of one digit, and no less than the value."""
    unit = 10.0 ** math.floor(math.log10(value))
    return f"{math.ceil(value / unit) * unit:.0e}"

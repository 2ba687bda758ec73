"""Batches: which requests may run together, how they are merged, and how answers are cut apart.

Rows are stacked in the order of the requests and cut apart in the same order. Nothing is ever
padded: only requests whose rows have equal shapes share a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from slipway_runtime.inference.tensors import Array, Signature

Key: TypeAlias = tuple[object, ...]
Arrays: TypeAlias = Mapping[str, Array]


class BatchMismatchError(Exception):
    """A merged run gave outputs that cannot be split by rows."""


@dataclass(frozen=True)
class BatchLimits:
    """How many rows may share a run (1 = never share), and how long the first may wait (s)."""

    max_rows: int = 1
    max_delay: float = 0.0


def key_of(
    signature: Signature, inputs: Arrays, outputs: Sequence[str] | None
) -> tuple[Key, int | None]:
    """Return what requests must have in common to share a run, and the rows of this one.

    The rows are None where the inputs do not have equally many, or none: such a request runs
    alone, and its key is its shapes. Naming all outputs in the model's order is the same as naming
    none.
    """
    wanted = None if outputs is None or outputs == signature.output_names else tuple(outputs)
    shapes = [inputs[spec.name].shape for spec in signature.inputs]
    rows = shapes[0][0] if shapes and shapes[0] else 0
    if len(shapes) == 1 and rows:
        return (wanted, shapes[0][1:]), rows
    if rows and all(shape and shape[0] == rows for shape in shapes):
        return (wanted, *(shape[1:] for shape in shapes)), rows
    return (wanted, None, *shapes), None


def merge(parts: Sequence[Arrays]) -> dict[str, Array]:
    """Return the inputs of all parts, stacked along dimension 0."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def cut(outputs: Arrays, rows: Sequence[int]) -> list[dict[str, Array]]:
    """Return the outputs of each part, which had so many rows each.

    Raises:
        BatchMismatchError: an output does not have a row for each row of the inputs.
    """
    total = sum(rows)
    for name, array in outputs.items():
        if array.ndim == 0 or array.shape[0] != total:
            raise BatchMismatchError(
                f"output {name!r} has the shape {array.shape} for {total} rows"
            )
    parts: list[dict[str, Array]] = []
    start = 0
    for count in rows:
        parts.append({name: array[start : start + count] for name, array in outputs.items()})
        start += count
    return parts

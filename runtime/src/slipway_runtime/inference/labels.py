"""Outputs that are a map per row (ONNX's ZipMap), as a matrix with a column per label.

scikit-learn's classifiers are exported so unless asked otherwise: for every row its probabilities
by class. ONNX Runtime returns a list of dictionaries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from slipway_runtime.errors import InferenceFailed
from slipway_runtime.inference.tensors import Array, TensorSpec

MapPerRow: TypeAlias = Sequence[Mapping[int | str, float]]


def labels_of(value: MapPerRow) -> tuple[str, ...]:
    """Return the labels of the first row, in the order that ONNX Runtime gives them."""
    return tuple(str(label) for label in value[0]) if value else ()


def to_matrix(spec: TensorSpec, value: MapPerRow) -> Array:
    """Return the values as FP32 [rows, labels].

    Raises:
        InferenceFailed: a row has other labels than the first run had.
    """
    labels = spec.labels or ()
    matrix = np.empty((len(value), len(labels)), dtype=np.float32)
    for number, row in enumerate(value):
        if tuple(str(label) for label in row) != labels:
            raise InferenceFailed(
                f"output {spec.name!r} has other labels in row {number} than in the first run"
            )
        matrix[number] = list(row.values())
    return matrix

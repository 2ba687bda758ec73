"""Labels of the last dimension of outputs: listed by the package, or of a map per row.

Outputs that are a map per row (ONNX's ZipMap) are served as a matrix with a column per label.
scikit-learn's classifiers are exported so unless asked otherwise: for every row its probabilities
by class. ONNX Runtime returns a list of dictionaries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from slipway_runtime.errors import InferenceFailed, InvalidModel
from slipway_runtime.inference.tensors import Array, TensorSpec

MapPerRow: TypeAlias = Sequence[Mapping[int | str, float]]


def given(listed: Mapping[str, Sequence[str]], outputs: Sequence[TensorSpec]) -> list[TensorSpec]:
    """Return the outputs with the labels that a package lists by output name.

    Maps keep their own.

    Raises:
        InvalidModel: the labels do not fit the graph's outputs.
    """
    known = {spec.name: spec for spec in outputs}
    for name, labels in listed.items():
        spec = known.get(name)
        width = (spec.shape or (None,))[-1] if spec is not None else None
        if spec is None or width not in (None, len(labels)):
            takes = "there is no such output" if spec is None else f"its last dimension is {width}"
            raise InvalidModel(
                f"the package lists {len(labels)} labels for the output {name!r}: {takes}"
            )
        if not spec.is_map:
            known[name] = replace(spec, labels=tuple(labels))
    return list(known.values())


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

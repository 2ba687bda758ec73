"""Bodies that the loaded model takes, for its OpenAPI document and its page.

Their values are those of the first golden sample while they are few, else zeros of its shapes;
without one they are the zeros that the model was warmed up with.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from slipway_runtime.inference.json_values import to_json_ready
from slipway_runtime.inference.model import Model
from slipway_runtime.inference.tensors import Array, TensorSpec
from slipway_runtime.protocol.request import encode_json

# An image of 3 x 224 x 224 has 150,528 elements; as zeros they are 300 kB of JSON.
MOST_ELEMENTS: Final = 200_000
_MOST_OF_A_SAMPLE: Final = 4096
_MOST_TO_LOOK_AT: Final = 1024


class Example(NamedTuple):
    """An input's values for JSON, nested and in row-major order, beside its shape."""

    shape: list[int]
    nested: Any
    flat: Any


Examples = Mapping[str, Example]


def of_model(model: Model, sample: Mapping[str, Array] | None = None) -> Examples | None:
    """Return an example of each input by name, or None where they would be too large.

    ``sample`` has the arrays of a golden sample by input name, if there is one.
    """
    specs = model.signature.inputs
    shapes = {
        spec.name: list(
            spec.smallest(model.free_size) if sample is None else sample[spec.name].shape
        )
        for spec in specs
    }
    elements = sum(math.prod(shape) for shape in shapes.values())
    if elements > MOST_ELEMENTS:
        return None
    if sample is None or elements > _MOST_OF_A_SAMPLE:
        return {spec.name: _zeros(spec, shapes[spec.name]) for spec in specs}
    return {spec.name: _given(spec, sample[spec.name]) for spec in specs}


def by_name(examples: Examples) -> dict[str, Any]:
    """Return the body of /predict: nested values by input name."""
    return {name: example.nested for name, example in examples.items()}


def to_look_at(examples: Examples) -> bytes:
    """Return the body of /predict with a line for each input; empty if it would be too long."""
    if sum(math.prod(example.shape) for example in examples.values()) > _MOST_TO_LOOK_AT:
        return b""
    members = (
        b"  " + encode_json(name) + b": " + encode_json(example.nested)
        for name, example in examples.items()
    )
    return b"{\n" + b",\n".join(members) + b"\n}"


def by_columns(examples: Examples) -> dict[str, Any]:
    """Return the body that TensorFlow Serving and MLflow take."""
    return {"inputs": by_name(examples)}


def infer(model: Model, examples: Examples) -> dict[str, Any]:
    """Return the body of the Open Inference Protocol."""
    return {
        "inputs": [
            {
                "name": spec.name,
                "shape": examples[spec.name].shape,
                "datatype": spec.datatype.name,
                "data": examples[spec.name].flat,
            }
            for spec in model.signature.inputs
        ]
    }


def as_csv(model: Model, examples: Examples) -> str | None:
    """Return the body as CSV, or None where the columns of an input have no names."""
    columns: dict[str, list[Any]] = {}
    heights = set[int]()
    for spec in model.signature.inputs:
        shape = examples[spec.name].shape
        names = model.columns.get(spec.name, [spec.name])
        width = shape[1] if len(shape) > 1 else 1
        if len(shape) not in (1, 2) or width != len(names):
            return None
        heights.add(shape[0])
        cells = np.asarray(examples[spec.name].nested, dtype=np.object_).reshape(-1, width)
        columns |= {name: cells[:, place].tolist() for place, name in enumerate(names)}
    if len(heights) != 1:
        return None
    text = io.StringIO()
    rows = zip(*columns.values(), strict=True)
    csv.writer(text, lineterminator="\n").writerows([list(columns), *rows])
    return text.getvalue()


def _zeros(spec: TensorSpec, shape: list[int]) -> Example:
    # Of whole numbers for fractions too, since 0 is half as long as 0.0.
    kind = {"b": np.bool_, "O": np.object_}.get(spec.datatype.kind, np.uint8)
    array = np.full(shape, "" if kind is np.object_ else 0, dtype=kind)
    return Example(shape, _plain(array), _plain(array.reshape(-1)))


def _plain(array: Array) -> Any:
    return array if array.ndim and array.dtype.kind != "O" else array.tolist()


def _given(spec: TensorSpec, array: Array) -> Example:
    flat = to_json_ready(spec, array.reshape(-1))
    return Example(list(array.shape), to_json_ready(spec, array), flat)

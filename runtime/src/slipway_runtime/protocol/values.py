"""Plain nested values by input name, as several protocols have them: by column and by row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np

from slipway_runtime.errors import BadRequest, UnrepresentableOutput
from slipway_runtime.inference.json_values import (
    NonFinite,
    from_nested,
    name_value,
    to_json_ready,
)
from slipway_runtime.inference.model import Model
from slipway_runtime.inference.tensors import Array, TensorSpec, check_names, check_shape


def from_columns(model: Model, value: object, member: str) -> dict[str, Array]:
    """Return the inputs of ``{name: values}``, or of bare values where the model has one input.

    Raises:
        BadRequest: a name or a value does not fit.
    """
    names = model.signature.input_names
    if isinstance(value, dict):
        values = cast("dict[str, object]", value)
    elif len(names) == 1:
        values = {names[0]: value}
    else:
        raise BadRequest(
            f"{member} must be an object with a value for each of {_listed(names)},"
            f" got {name_value(value)}"
        )
    check_names(model.signature, list(values))
    inputs: dict[str, Array] = {}
    for spec in model.signature.inputs:
        array = from_nested(spec, values[spec.name])
        check_shape(spec, array.shape)
        inputs[spec.name] = array
    return inputs


def from_rows(model: Model, value: object, member: str) -> dict[str, Array]:
    """Return the inputs of a list of rows: each an object by input name, or a bare value.

    Raises:
        BadRequest: it is no list, the rows differ in kind, or a value does not fit.
    """
    if not isinstance(value, list):
        raise BadRequest(f"{member} must be a list of rows, got {name_value(value)}")
    rows = cast("list[object]", value)
    if not any(isinstance(row, dict) for row in rows):
        return from_columns(model, rows, member)
    names = model.signature.input_names
    columns: dict[str, list[object]] = {name: [] for name in names}
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise BadRequest(
                f"{member}[{number}] is {name_value(row)} where others are objects by input name"
            )
        fields = cast("dict[str, object]", row)
        if fields.keys() != columns.keys():
            raise BadRequest(
                f"{member}[{number}] has the members {_listed(list(fields))}, expected"
                f" {_listed(names)}"
            )
        for name in names:
            columns[name].append(fields[name])
    return from_columns(model, columns, member)


def to_plain(spec: TensorSpec, array: Array, non_finite: NonFinite) -> object:
    """Return what JSON shows of an output: its values, of a map per row an object by label."""
    values = to_json_ready(spec, array, non_finite)
    if not spec.is_map or spec.labels is None:
        return values
    # As a list, float32 would be shown with the digits of a double: orjson knows NumPy's scalars.
    rows = cast("Any", values)
    if array.ndim == 1:
        return dict(zip(spec.labels, rows, strict=True))
    return [dict(zip(spec.labels, row, strict=True)) for row in rows]


def to_columns(model: Model, outputs: Mapping[str, Array], non_finite: NonFinite) -> object:
    """Return ``{name: values}``, or the values alone where there is one output."""
    values = {
        name: to_plain(model.output_spec(name), array, non_finite)
        for name, array in outputs.items()
    }
    return next(iter(values.values())) if len(values) == 1 else values


def to_rows(model: Model, outputs: Mapping[str, Array], non_finite: NonFinite) -> object:
    """Return a list of rows: objects by output name, or values where there is one output.

    Raises:
        UnrepresentableOutput: the outputs have no rows, or not equally many.
    """
    if len(outputs) == 1:
        return to_columns(model, outputs, non_finite)
    counts = {array.shape[0] if array.ndim else None for array in outputs.values()}
    count = next(iter(counts))
    if len(counts) > 1 or count is None:
        shapes = {name: list(array.shape) for name, array in outputs.items()}
        raise UnrepresentableOutput(
            f"the outputs do not have equally many rows ({shapes}): ask in the columnar form"
        )
    names = list(outputs)
    columns = [
        _rows(to_plain(model.output_spec(name), array, non_finite))
        for name, array in outputs.items()
    ]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _rows(values: object) -> Iterable[Any]:
    """Return the rows of an output's values, as orjson takes them one by one."""
    if not isinstance(values, np.ndarray):
        return cast("list[Any]", values)
    array = cast("Array", values)
    # Of integers it knows ONNX Runtime's in arrays alone; as a list, float32 would be shown with
    # the digits of a double.
    return array.tolist() if array.ndim == 1 and array.dtype.kind != "f" else array


def _listed(names: list[str]) -> str:
    return ", ".join(repr(name[:100]) for name in names[:20]) or "none"

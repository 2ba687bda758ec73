"""The codec between JSON values and arrays.

Every protocol goes through here, so that all of them accept and refuse the same values.
The checks look at whole lists with C-speed built-ins and search for the culprit only once something
is wrong.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final, Literal, TypeAlias, cast

import numpy as np

from slipway_runtime.errors import BadRequest, UnrepresentableOutput
from slipway_runtime.inference import bfloat16
from slipway_runtime.inference.tensors import BF16, Array, TensorSpec

NonFinite: TypeAlias = Literal["refuse", "null", "string"]

_MAX_DIMENSIONS: Final = 32
_FLOAT32: Final = np.dtype(np.float32)
# Up to this length a list is checked faster than NumPy starts up.
_FEW_ELEMENTS: Final = 16


def from_nested(spec: TensorSpec, value: object) -> Array:
    """Make an array of the input's datatype from nested lists; a bare value has the shape ().

    Raises:
        BadRequest: ragged lists, or an element that is not of the datatype.
    """
    shape, flat, kinds = _flatten(spec, value)
    return _elements(spec, flat, kinds, shape).reshape(shape)


def from_row_major(spec: TensorSpec, data: object, shape: Sequence[int]) -> Array:
    """Make an array of this shape from a flat list in row-major order, or from nested lists.

    Raises:
        BadRequest: the count of elements is not that of the shape, nested lists have another
            shape, or an element is not of the datatype.
    """
    if not isinstance(data, list):
        raise BadRequest(f"input {spec.name!r}: data must be a list, got {name_value(data)}")
    nested, flat, kinds = _flatten(spec, cast("object", data))
    expected = math.prod(shape)
    if len(nested) > 1 and tuple(shape) != nested:
        raise BadRequest(
            f"input {spec.name!r}: the shape is {list(shape)}, but the nested lists of data have"
            f" the shape {list(nested)}"
        )
    if len(flat) != expected:
        raise BadRequest(
            f"input {spec.name!r}: the shape {list(shape)} has {expected} elements,"
            f" data has {len(flat)}"
        )
    return _elements(spec, flat, kinds, nested).reshape(shape)


def to_json_ready(
    spec: TensorSpec, array: Array, non_finite: NonFinite = "refuse"
) -> Array | list[Any] | bool | int | float | str | None:
    """Return what orjson encodes exactly: a contiguous native array, or plain values.

    orjson would silently write NaN and infinities as null, so they are refused here, or
    become null or a string ("NaN", "Infinity", "-Infinity") where the operator has asked for it.

    Raises:
        UnrepresentableOutput: naming the output and how many values have no JSON form.
    """
    kind = spec.datatype.kind
    if kind == "O":
        return _strings(spec.name, array)
    if kind == "f":
        if spec.datatype.name == BF16:
            array = bfloat16.widen(array)
        if not _is_finite(array):
            finite = np.isfinite(array)
            if non_finite == "refuse":
                raise _not_finite(spec, array, finite)
            return _with_substitutes(array, finite, non_finite)
    if array.ndim == 0:
        # A Python float would show a float32 with the digits of a double; and ONNX Runtime's 64-bit
        # integers are of NumPy's types longlong and ulonglong, which orjson takes in arrays alone.
        return array[()] if kind == "f" else array.item()
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return np.ascontiguousarray(array)


def _is_finite(array: Array) -> bool:
    if array.size <= _FEW_ELEMENTS:
        return all(map(math.isfinite, array.reshape(-1).tolist()))
    return bool(np.isfinite(array).all())


def _not_finite(spec: TensorSpec, array: Array, finite: Array) -> UnrepresentableOutput:
    count = int(array.size - np.count_nonzero(finite))
    return UnrepresentableOutput(
        f"output {spec.name!r} holds {count} of {array.size} values that are not finite (NaN or"
        " infinity), for which JSON has no form: ask for binary output, or set SLIPWAY_NON_FINITE"
        " (spec.runtime.nonFinite) to null or string"
    )


def _with_substitutes(array: Array, finite: Array, non_finite: NonFinite) -> Any:
    values = np.empty(array.size, dtype=np.object_)
    # NumPy's own numbers: Python's would show a float32 with the digits of a double.
    values[:] = list(array.reshape(-1))
    values = values.reshape(array.shape)
    if non_finite == "null":
        values[~finite] = None
    else:
        values[np.isnan(array)] = "NaN"
        values[np.isposinf(array)] = "Infinity"
        values[np.isneginf(array)] = "-Infinity"
    return values.tolist()


def _strings(name: str, array: Array) -> list[Any] | str:
    plain: object = array.tolist()
    try:
        return cast("list[Any] | str", _decode(plain))
    except UnicodeDecodeError as error:
        raise UnrepresentableOutput(
            f"output {name!r} holds bytes that are not UTF-8, for which JSON has no form"
        ) from error


def _decode(value: object) -> object:
    if isinstance(value, list):
        return [_decode(item) for item in cast("list[object]", value)]
    return value.decode("utf-8") if isinstance(value, bytes) else value


def _flatten(
    spec: TensorSpec, value: object
) -> tuple[tuple[int, ...], list[object], set[type[object]]]:
    """Return the shape of nested lists, their elements in row-major order, and whose types."""
    if not isinstance(value, list):
        return (), [value], {type(value)}
    level = cast("list[object]", value)
    shape = [len(level)]
    while list in (kinds := set(map(type, level))):
        if len(shape) >= _MAX_DIMENSIONS:
            raise BadRequest(f"input {spec.name!r}: lists are nested more than 32 deep")
        rows = cast("list[list[object]]", level)
        if len(kinds) > 1 or len(set(map(len, rows))) > 1:
            raise BadRequest(f"input {spec.name!r}: the lists are ragged, {_ragged(level, shape)}")
        shape.append(len(rows[0]))
        level = list(chain.from_iterable(rows))
    return tuple(shape), level, kinds


def _ragged(level: list[object], shape: list[int]) -> str:
    """Say where the first list is that differs from the one at index 0."""

    def describe(item: object) -> str:
        if isinstance(item, list):
            return f"a list of {len(cast('list[object]', item))}"
        return name_value(item)

    first = describe(level[0])
    for position, item in enumerate(level):
        if describe(item) != first:
            index = [int(part) for part in np.unravel_index(position, shape)]
            return f"at index {index} is {describe(item)} where the first is {first}"
    return "their elements differ in kind"


_ACCEPTED: Final[Mapping[str, frozenset[type]]] = {
    "b": frozenset({bool}),
    "i": frozenset({int}),
    "u": frozenset({int}),
    "f": frozenset({int, float}),
    "O": frozenset({str}),
}
_WANTED: Final[Mapping[str, str]] = {
    "b": "true or false",
    "i": "an integer",
    "u": "an integer",
    "f": "a number",
    "O": "a string",
}


def _elements(
    spec: TensorSpec, flat: list[object], kinds: set[type[object]], shape: Sequence[int]
) -> Array:
    """Make a one-dimensional array of elements of these types, exactly or not at all."""
    kind = spec.datatype.kind
    accepted = _ACCEPTED[kind]
    if not kinds <= accepted:
        position = next(i for i, item in enumerate(flat) if type(item) not in accepted)
        raise _bad_element(spec, flat, position, shape)
    if kind == "O":
        return _string_elements(spec, flat)
    if spec.datatype.dtype == _FLOAT32:
        numbers = cast("list[float]", flat)
        array = _float32_elements(numbers)
        # Of finite numbers the sum is infinite only where they are very large.
        if array is not None and math.isfinite(sum(numbers)):
            return array
    is_bf16 = spec.datatype.name == BF16
    try:
        with np.errstate(over="ignore"):
            array = np.array(flat, dtype=np.float64 if is_bf16 else spec.datatype.dtype)
    except OverflowError:
        raise _bad_element(spec, flat, _out_of_range(spec, flat), shape) from None
    if kind == "f":
        bits = bfloat16.narrow(array) if is_bf16 else array
        finite = np.isfinite(bfloat16.widen(bits) if is_bf16 else array)
        if not finite.all():
            raise _bad_element(spec, flat, int(np.argmin(finite)), shape)
        return bits
    return array


def _float32_elements(numbers: list[float]) -> Array | None:
    """Make an array, sooner than NumPy does of a short list; None where one is out of range."""
    try:
        return np.frombuffer(struct.pack(f"={len(numbers)}f", *numbers), dtype=_FLOAT32)
    except (OverflowError, struct.error):
        return None


def _string_elements(spec: TensorSpec, flat: list[object]) -> Array:
    array = np.empty(len(flat), dtype=np.object_)
    array[:] = flat
    for position, item in enumerate(cast("list[str]", flat)):
        if "\0" in item:
            # ONNX Runtime's Python binding ends a string at the first NUL.
            raise BadRequest(
                f"input {spec.name!r}: the string at position {position} holds a NUL character"
            )
    return array


def _out_of_range(spec: TensorSpec, flat: list[object]) -> int:
    if spec.datatype.kind == "f":
        return next(i for i, item in enumerate(flat) if _overflows(item))
    limits = np.iinfo(spec.datatype.dtype)
    numbers = cast("list[int]", flat)
    return next(i for i, item in enumerate(numbers) if not limits.min <= item <= limits.max)


def _overflows(item: object) -> bool:
    try:
        float(cast("int", item))
    except OverflowError:
        return True
    return False


def _bad_element(
    spec: TensorSpec, flat: list[object], position: int, shape: Sequence[int]
) -> BadRequest:
    item = flat[position]
    index = [int(part) for part in np.unravel_index(position, tuple(shape))] if shape else []
    where = f" at index {index}" if index else ""
    wanted = _WANTED[spec.datatype.kind]
    if type(item) in _ACCEPTED[spec.datatype.kind]:
        return BadRequest(
            f"input {spec.name!r}: the value{where} is out of range for {spec.datatype.name}"
        )
    return BadRequest(
        f"input {spec.name!r} has the datatype {spec.datatype.name}: expected {wanted}{where},"
        f" got {name_value(item)}"
    )


def name_value(value: object) -> str:
    """Name a JSON value for a message, short."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return f"the string {value[:40]!r}"
        case int() | float():
            return f"the number {value!r}"[:60]
        case list():
            return "a list"
        case _:
            return "an object"

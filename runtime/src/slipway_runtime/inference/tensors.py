"""Tensors: datatypes, the model's signature, and the one codec between JSON values and arrays.

Every protocol goes through here, so that a value is accepted or refused alike whichever way it
came. The checks look at whole lists with C-speed built-ins and search for the culprit only once
something is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from slipway_runtime.errors import BadRequest, UnrepresentableOutput

Array: TypeAlias = npt.NDArray[Any]
Shape: TypeAlias = tuple[int | None, ...]

_MAX_DIMENSIONS: Final = 32


@dataclass(frozen=True)
class Datatype:
    """A datatype of the Open Inference Protocol and its NumPy type (object for BYTES)."""

    name: str
    dtype: np.dtype[Any]

    @property
    def kind(self) -> str:
        """NumPy's letter: b boolean, i signed, u unsigned, f floating point, O strings."""
        return self.dtype.kind


DATATYPES: Final[Mapping[str, Datatype]] = {
    name: Datatype(name, np.dtype(dtype))
    for name, dtype in (
        ("BOOL", np.bool_),
        ("INT8", np.int8),
        ("INT16", np.int16),
        ("INT32", np.int32),
        ("INT64", np.int64),
        ("UINT8", np.uint8),
        ("UINT16", np.uint16),
        ("UINT32", np.uint32),
        ("UINT64", np.uint64),
        ("FP16", np.float16),
        ("FP32", np.float32),
        ("FP64", np.float64),
        ("BYTES", np.object_),
    )
}


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of the model.

    ``shape`` has None for each symbolic dimension; it is None itself where the model does not
    say, which ONNX Runtime shows in the same way as a scalar.
    """

    name: str
    datatype: Datatype
    shape: Shape | None

    @property
    def wire_shape(self) -> list[int]:
        """The shape as the protocol has it: -1 for a symbolic dimension."""
        return [-1 if size is None else size for size in self.shape or ()]

    @property
    def batchable(self) -> bool:
        """Whether dimension 0 is there and not fixed."""
        return bool(self.shape) and self.shape[0] is None


@dataclass(frozen=True)
class Signature:
    """The model's inputs and outputs, in the model's order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def input_names(self) -> list[str]:
        """The names of the inputs in order."""
        return [spec.name for spec in self.inputs]

    @property
    def output_names(self) -> list[str]:
        """The names of the outputs in order."""
        return [spec.name for spec in self.outputs]


def check_names(signature: Signature, given: Sequence[str]) -> None:
    """Check that each of the model's inputs is given once and nothing else is.

    Raises:
        BadRequest: an input is unknown, missing or given twice.
    """
    expected = signature.input_names
    listed = ", ".join(repr(name) for name in expected)
    for name in given:
        if name not in expected:
            raise BadRequest(f"the model has no input {name[:200]!r}; its inputs are {listed}")
    for name in expected:
        count = given.count(name)
        if count != 1:
            problem = "is missing" if count == 0 else f"is given {count} times"
            raise BadRequest(f"input {name!r} {problem}; the model's inputs are {listed}")


def check_shape(spec: TensorSpec, shape: Sequence[int]) -> None:
    """Check rank and fixed dimensions.

    Raises:
        BadRequest: naming the input, what was expected and what was given.
    """
    if not spec.shape:
        return
    expected = spec.wire_shape
    if len(shape) != len(expected):
        raise BadRequest(
            f"input {spec.name!r} has {len(expected)} dimensions {expected},"
            f" got {len(shape)} with the shape {list(shape)}"
        )
    for axis, (want, got) in enumerate(zip(expected, shape, strict=True)):
        if want not in (-1, got):
            raise BadRequest(
                f"input {spec.name!r} has the shape {expected}, got {list(shape)}:"
                f" dimension {axis} must be {want}, not {got}"
            )


def from_nested(spec: TensorSpec, value: object) -> Array:
    """Make an array of the input's datatype from nested lists; a bare value has the shape ().

    Raises:
        BadRequest: ragged lists, or an element that is not of the datatype.
    """
    shape, flat = _flatten(spec, value)
    return _elements(spec, flat, shape).reshape(shape)


def from_row_major(spec: TensorSpec, data: object, shape: Sequence[int]) -> Array:
    """Make an array of this shape from a flat list in row-major order, or from nested lists.

    Raises:
        BadRequest: the count of elements is not that of the shape, nested lists have another
            shape, or an element is not of the datatype.
    """
    if not isinstance(data, list):
        raise BadRequest(f"input {spec.name!r}: data must be a list, got {name_value(data)}")
    nested, flat = _flatten(spec, cast("object", data))
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
    return _elements(spec, flat, nested).reshape(shape)


def to_json_ready(name: str, array: Array) -> Array | list[Any] | bool | int | float | str:
    """Return what orjson encodes exactly: a contiguous native array, or plain values.

    orjson would write NaN and infinities as null without a word, so they are refused here.

    Raises:
        UnrepresentableOutput: naming the output and how many values have no JSON form.
    """
    if array.dtype.kind == "f":
        finite = np.isfinite(array)
        if not finite.all():
            count = int(array.size - np.count_nonzero(finite))
            raise UnrepresentableOutput(
                f"output {name!r} holds {count} of {array.size} values that are not finite"
                " (NaN or infinity), for which JSON has no form"
            )
    if array.ndim == 0 or array.dtype.kind in "OUS":
        return _strings(name, array) if array.dtype.kind in "OUS" else array.item()
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return np.ascontiguousarray(array)


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


def _flatten(spec: TensorSpec, value: object) -> tuple[tuple[int, ...], list[object]]:
    """Return the shape of nested lists and their elements in row-major order."""
    if not isinstance(value, list):
        return (), [value]
    level = cast("list[object]", value)
    shape = [len(level)]
    while level and list in (kinds := set(map(type, level))):
        if len(shape) >= _MAX_DIMENSIONS:
            raise BadRequest(f"input {spec.name!r}: lists are nested more than 32 deep")
        rows = cast("list[list[object]]", level)
        if len(kinds) > 1 or len(set(map(len, rows))) > 1:
            raise BadRequest(f"input {spec.name!r}: the lists are ragged, {_ragged(level, shape)}")
        shape.append(len(rows[0]))
        level = list(chain.from_iterable(rows))
    return tuple(shape), level


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


def _elements(spec: TensorSpec, flat: list[object], shape: Sequence[int]) -> Array:
    """Make a one-dimensional array, exactly or not at all."""
    kind = spec.datatype.kind
    accepted = _ACCEPTED[kind]
    if not accepted.issuperset(map(type, flat)):
        position = next(i for i, item in enumerate(flat) if type(item) not in accepted)
        raise _bad_element(spec, flat, position, shape)
    if kind == "O":
        return _string_elements(spec, flat)
    try:
        with np.errstate(over="ignore"):
            array = np.array(flat, dtype=spec.datatype.dtype)
    except OverflowError:
        raise _bad_element(spec, flat, _out_of_range(spec, flat), shape) from None
    if kind == "f":
        finite = np.isfinite(array)
        if not finite.all():
            raise _bad_element(spec, flat, int(np.argmin(finite)), shape)
    return array


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

"""Tensors: datatypes, the model's signature, and what a request's names and shapes must be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from slipway_runtime.errors import BadRequest

Array: TypeAlias = npt.NDArray[Any]
Shape: TypeAlias = tuple[int | None, ...]

BF16: Final = "BF16"


@dataclass(frozen=True)
class Datatype:
    """A datatype of the Open Inference Protocol and the NumPy type of its arrays.

    BYTES are objects (str). NumPy has no bfloat16: BF16 arrays are uint16 and hold the bits.
    ``kind`` is NumPy's letter for the values: b boolean, i signed, u unsigned, f floating point,
    O strings.
    """

    name: str
    dtype: np.dtype[Any]
    kind: str


DATATYPES: Final[Mapping[str, Datatype]] = {
    name: Datatype(name, np.dtype(dtype), "f" if name == BF16 else np.dtype(dtype).kind)
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
        (BF16, np.uint16),
        ("FP32", np.float32),
        ("FP64", np.float64),
        ("BYTES", np.object_),
    )
}


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of the model.

    ``shape`` has None for each symbolic dimension; it is None itself where the model does not
    say, which ONNX Runtime shows in the same way as a scalar. ``labels`` name the last dimension of
    an output where they are known. ``is_map`` marks outputs that are a map per row, as
    scikit-learn's classifiers give their probabilities: these are served as a matrix with a column
    per label. ``has_rows`` is False for outputs whose dimension 0 is not the batch's: its size
    follows from values, as that of what is detected in an image.
    """

    name: str
    datatype: Datatype
    shape: Shape | None
    labels: tuple[str, ...] | None = None
    is_map: bool = False
    has_rows: bool = True

    @property
    def wire_shape(self) -> list[int]:
        """The shape as the protocol has it: -1 for a symbolic dimension."""
        return [-1 if size is None else size for size in self.shape or ()]

    def allows(self, shape: Sequence[int]) -> bool:
        """Whether an array may have this shape: by its rank and its fixed dimensions."""
        if not self.shape:
            return True
        if len(shape) != len(self.shape):
            return False
        for want, got in zip(self.shape, shape, strict=True):
            if want is not None and want != got:
                return False
        return True

    def smallest(self, free_size: int) -> tuple[int, ...]:
        """Return a shape of one row whose other symbolic dimensions have this size."""
        sizes = enumerate(self.shape or ())
        return tuple((free_size if axis else 1) if size is None else size for axis, size in sizes)

    @property
    def batchable(self) -> bool:
        """Whether dimension 0 is there and not fixed."""
        return bool(self.shape) and self.shape[0] is None


@dataclass(frozen=True)
class Signature:
    """The model's inputs and outputs, in the model's order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @cached_property
    def input_names(self) -> list[str]:
        """The names of the inputs in order."""
        return [spec.name for spec in self.inputs]

    @cached_property
    def output_names(self) -> list[str]:
        """The names of the outputs in order."""
        return [spec.name for spec in self.outputs]

    @cached_property
    def inputs_by_name(self) -> Mapping[str, TensorSpec]:
        """The inputs by their names."""
        return {spec.name: spec for spec in self.inputs}


def check_names(signature: Signature, given: Sequence[str]) -> None:
    """Check that each of the model's inputs is given once and nothing else is.

    Raises:
        BadRequest: an input is unknown, missing or given twice.
    """
    expected = signature.input_names
    if given == expected:
        return
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
    if spec.allows(shape):
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

"""Inputs and outputs by the names that the Open Inference Protocol gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

Array = NDArray[Any]

BF16 = "BF16"
SERVED: Mapping[int, tuple[str, str]] = {
    onnx.TensorProto.BOOL: ("BOOL", "bool"),
    onnx.TensorProto.INT8: ("INT8", "int8"),
    onnx.TensorProto.INT16: ("INT16", "int16"),
    onnx.TensorProto.INT32: ("INT32", "int32"),
    onnx.TensorProto.INT64: ("INT64", "int64"),
    onnx.TensorProto.UINT8: ("UINT8", "uint8"),
    onnx.TensorProto.UINT16: ("UINT16", "uint16"),
    onnx.TensorProto.UINT32: ("UINT32", "uint32"),
    onnx.TensorProto.UINT64: ("UINT64", "uint64"),
    onnx.TensorProto.FLOAT16: ("FP16", "float16"),
    onnx.TensorProto.FLOAT: ("FP32", "float32"),
    onnx.TensorProto.DOUBLE: ("FP64", "float64"),
    onnx.TensorProto.STRING: ("BYTES", "object"),
}
"""ONNX element type -> (protocol's datatype, NumPy dtype) of what the runtime serves."""

DTYPES: Mapping[str, np.dtype[Any]] = {name: np.dtype(dtype) for name, dtype in SERVED.values()}
"""Datatype of the protocol -> NumPy dtype; BYTES are objects that hold str."""


@dataclass(frozen=True)
class Tensor:
    """An input or output.

    ``datatype`` is the protocol's name, or ONNX's in lower case for what the protocol has not got
    (``map``, ``sequence``, ``float8e4m3fn``). ``shape`` holds a number for a fixed dimension, a
    name for a symbolic one, None for one that is not known; it is None where the rank is not.
    """

    name: str
    datatype: str
    shape: tuple[int | str | None, ...] | None

    @property
    def served(self) -> bool:
        """Whether the runtime takes such a tensor."""
        return self.datatype in DTYPES

    @property
    def batch(self) -> str | None:
        """The name of a symbolic first dimension ("?" without a name), None for a fixed one."""
        if not self.shape or isinstance(self.shape[0], int):
            return None
        return self.shape[0] or "?"

    @property
    def wire_shape(self) -> list[int]:
        """The shape as the protocol writes it: -1 for what is not fixed."""
        return [size if isinstance(size, int) else -1 for size in self.shape or ()]

    @property
    def shown_shape(self) -> str:
        """The shape as a person reads it."""
        if self.shape is None:
            return "any rank"
        return "[" + ", ".join("?" if size is None else str(size) for size in self.shape) + "]"


def inputs_of(graph: onnx.GraphProto) -> tuple[Tensor, ...]:
    """Return what must be fed, in the model's order; initializers are not among it."""
    given = {tensor.name for tensor in graph.initializer}
    given |= {tensor.values.name for tensor in graph.sparse_initializer}
    return tuple(_tensor(value) for value in graph.input if value.name not in given)


def outputs_of(graph: onnx.GraphProto) -> tuple[Tensor, ...]:
    """Return the outputs in the model's order."""
    return tuple(_tensor(value) for value in graph.output)


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return Tensor(value.name, (kind or "untyped").removesuffix("_type"), None)
    tensor = value.type.tensor_type
    if tensor.elem_type in SERVED:
        datatype = SERVED[tensor.elem_type][0]
    elif tensor.elem_type == onnx.TensorProto.BFLOAT16:
        datatype = BF16
    else:
        datatype = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    if not tensor.HasField("shape"):
        return Tensor(value.name, datatype, None)
    return Tensor(value.name, datatype, tuple(_size(size) for size in tensor.shape.dim))


def _size(dimension: onnx.TensorShapeProto.Dimension) -> int | str | None:
    match dimension.WhichOneof("value"):
        case "dim_value" if dimension.dim_value >= 0:
            return dimension.dim_value
        case "dim_param" if dimension.dim_param:
            return dimension.dim_param
        case _:
            return None

"""Inputs and outputs by the names that the Open Inference Protocol gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from slipway.model import typical
from slipway.model.tensor import BF16, NUMPY_NAMES, Tensor

Array = NDArray[Any]

DATATYPES: Mapping[int, str] = {
    onnx.TensorProto.BOOL: "BOOL",
    onnx.TensorProto.INT8: "INT8",
    onnx.TensorProto.INT16: "INT16",
    onnx.TensorProto.INT32: "INT32",
    onnx.TensorProto.INT64: "INT64",
    onnx.TensorProto.UINT8: "UINT8",
    onnx.TensorProto.UINT16: "UINT16",
    onnx.TensorProto.UINT32: "UINT32",
    onnx.TensorProto.UINT64: "UINT64",
    onnx.TensorProto.FLOAT16: "FP16",
    onnx.TensorProto.FLOAT: "FP32",
    onnx.TensorProto.DOUBLE: "FP64",
    onnx.TensorProto.STRING: "BYTES",
}
"""ONNX element type -> the protocol's datatype, for what the runtime serves."""

DTYPES: Mapping[str, np.dtype[Any]] = {name: np.dtype(kind) for name, kind in NUMPY_NAMES.items()}
"""Datatype of the protocol -> NumPy dtype; BYTES are objects that hold str."""


def inputs_of(graph: onnx.GraphProto) -> tuple[Tensor, ...]:
    """Return what must be fed, in the model's order; initializers are not among it."""
    given = {tensor.name for tensor in graph.initializer}
    given |= {tensor.values.name for tensor in graph.sparse_initializer}
    return tuple(_tensor(value) for value in graph.input if value.name not in given)


def inputs_with_typical(model: onnx.ModelProto) -> tuple[Tensor, ...]:
    """Return what must be fed, with the typical values that the model's metadata lists."""
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return typical.read(metadata, inputs_of(model.graph))


def outputs_of(graph: onnx.GraphProto) -> tuple[Tensor, ...]:
    """Return the outputs in the model's order."""
    return tuple(_tensor(value) for value in graph.output)


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return Tensor(value.name, (kind or "untyped").removesuffix("_type"), None)
    tensor = value.type.tensor_type
    if tensor.elem_type in DATATYPES:
        datatype = DATATYPES[tensor.elem_type]
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

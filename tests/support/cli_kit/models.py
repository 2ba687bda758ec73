"""Small ONNX models for the tests of the command, as the bytes of their files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TYPES = {
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "INT64": TensorProto.INT64,
    "BYTES": TensorProto.STRING,
}


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def tensor(name: str, shape: Sequence[int | str] | None, datatype: str = "FP32") -> Any:
    return helper.make_tensor_value_info(name, TYPES[datatype], shape)


def constant(name: str, values: Any, dtype: Any = np.float32) -> Any:
    return numpy_helper.from_array(np.array(values, dtype), name)


def build(
    nodes: Sequence[Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    initializers: Sequence[Any] = (),
) -> bytes:
    graph = helper.make_graph(list(nodes), "test", list(inputs), list(outputs), list(initializers))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    return model.SerializeToString()


def linear(*, bias: float = 1.0) -> bytes:
    """x [n, 4] -> y [n, 2] = x [[0, 1], [2, 3], [4, 5], [6, 7]] + bias."""
    return build(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
        [tensor("x", ["n", 4])],
        [tensor("y", ["n", 2])],
        [constant("w", np.arange(8).reshape(4, 2)), constant("b", [bias, bias])],
    )


def one_operator(
    operator: str, shape: Sequence[int | str] | None = ("n", "k"), name: str = "x"
) -> bytes:
    """One input, through one operator, to the output y."""
    node = helper.make_node(operator, [name], ["y"])
    return build([node], [tensor(name, shape)], [tensor("y", shape)])


def identity(shape: Sequence[int | str] | None = ("n", "k"), name: str = "x") -> bytes:
    return one_operator("Identity", shape, name)


def logarithm() -> bytes:
    """y = log x, which is no number below 0."""
    return one_operator("Log")


def with_external_data(folder: Path, *, rows: int = 64, columns: int = 64) -> Path:
    """A model big.onnx whose weights lie in w.bin beside it."""
    weights = np.random.default_rng(0).random((rows, columns), np.float32)
    content = build(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [tensor("x", ["n", rows])],
        [tensor("y", ["n", columns])],
        [constant("w", weights)],
    )
    path = folder / "big.onnx"
    onnx.save_model(
        onnx.load_model_from_string(content),
        str(path),
        save_as_external_data=True,
        location="w.bin",
        size_threshold=0,
    )
    return path

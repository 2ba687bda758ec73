"""A small real model: a two-layer classifier of transactions, with fixed random weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_INPUTS, _HIDDEN, _CLASSES = 4, 16, 2
_OPSET, _IR_VERSION = 21, 10

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Classifier:
    """Weights of softmax(relu(x A + b) C + d), all float32."""

    a: Array
    b: Array
    c: Array
    d: Array

    def predict(self, x: Array) -> Array:
        """Compute the answer without ONNX Runtime: float32 [n, 4] to float32 [n, 2]."""
        hidden = np.maximum(x @ self.a + self.b, 0)
        scores = hidden @ self.c + self.d
        exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
        return exponents / exponents.sum(axis=1, keepdims=True)

    def to_onnx(self) -> bytes:
        """Return the ONNX file: input ``features`` [batch, 4], output ``probabilities``."""
        # The package's stubs leave its builders half typed.
        make: Any = helper
        convert: Any = numpy_helper
        weights = {"a": self.a, "b": self.b, "c": self.c, "d": self.d}
        graph = make.make_graph(
            [
                make.make_node("Gemm", ["features", "a", "b"], ["hidden"]),
                make.make_node("Relu", ["hidden"], ["active"]),
                make.make_node("Gemm", ["active", "c", "d"], ["scores"]),
                make.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
            ],
            "fraud",
            [make.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", _INPUTS])],
            [make.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", _CLASSES])],
            [convert.from_array(value, name) for name, value in weights.items()],
        )
        model = make.make_model(graph, opset_imports=[make.make_opsetid("", _OPSET)])
        model.ir_version = _IR_VERSION
        content: bytes = model.SerializeToString()
        return content


def train(version: int) -> Classifier:
    """Return the classifier of that version; each has its own weights, the same on every call."""
    source = np.random.default_rng(version)

    def weights(*shape: int) -> Array:
        return source.standard_normal(shape).astype(np.float32)

    return Classifier(
        weights(_INPUTS, _HIDDEN), weights(_HIDDEN), weights(_HIDDEN, _CLASSES), weights(_CLASSES)
    )

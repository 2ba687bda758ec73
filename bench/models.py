"""The models that benchmarks serve, and one row of inputs for each; all weights are random.

What a run costs does not depend on what the weights are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TREES, DEPTH, FEATURES = 100, 6, 32
TOKENS = 32
_OPSET = 17

Feeds = dict[str, np.ndarray]
ROW = np.random.default_rng(7).standard_normal((1, 128)).astype(np.float32)
"""One row for the MLP."""


@dataclass(frozen=True)
class Served:
    """A model that is served, and one row of inputs by name."""

    about: str
    content: Callable[[], bytes]
    feeds: Feeds


def mlp() -> bytes:
    """x [n, 128] FP32 -> y [n, 1]: two hidden layers of 64."""
    random = np.random.default_rng(1)
    sizes = (128, 64, 64, 1)
    nodes, weights, name = [], [], "x"
    for layer, (wide, narrow) in enumerate(pairwise(sizes)):
        last = layer == len(sizes) - 2
        for kind, array in (
            ("w", random.standard_normal((wide, narrow)) / wide**0.5),
            ("b", random.standard_normal(narrow)),
        ):
            weights.append(numpy_helper.from_array(array.astype(np.float32), f"{kind}{layer}"))
        result = "y" if last else f"h{layer}"
        nodes.append(helper.make_node("Gemm", [name, f"w{layer}", f"b{layer}"], [result]))
        if not last:
            nodes.append(helper.make_node("Relu", [result], [f"r{layer}"]))
        name = f"r{layer}"
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 128])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    return model.SerializeToString()


def trees() -> bytes:
    """x [n, FEATURES] FP32 -> y [n, 1]: complete trees with random splits and leaves."""
    random = np.random.default_rng(5)
    inner, nodes = 2**DEPTH - 1, 2 ** (DEPTH + 1) - 1
    each = range(TREES)
    leaf = [number >= inner for number in range(nodes)]
    attributes = {
        "nodes_treeids": [tree for tree in each for _ in range(nodes)],
        "nodes_nodeids": [number for _ in each for number in range(nodes)],
        "nodes_featureids": random.integers(0, FEATURES, TREES * nodes).tolist(),
        "nodes_values": random.standard_normal(TREES * nodes).astype(np.float32).tolist(),
        "nodes_modes": ["LEAF" if end else "BRANCH_LEQ" for _ in each for end in leaf],
        "nodes_truenodeids": [
            0 if leaf[number] else 2 * number + 1 for _ in each for number in range(nodes)
        ],
        "nodes_falsenodeids": [
            0 if leaf[number] else 2 * number + 2 for _ in each for number in range(nodes)
        ],
        "target_treeids": [tree for tree in each for _ in range(nodes - inner)],
        "target_nodeids": [number for _ in each for number in range(inner, nodes)],
        "target_ids": [0] * (TREES * (nodes - inner)),
        "target_weights": random.standard_normal(TREES * (nodes - inner)).tolist(),
        "n_targets": 1,
    }
    graph = helper.make_graph(
        [
            helper.make_node(
                "TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", **attributes
            )
        ],
        "trees",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets)
    model.ir_version = 8
    return model.SerializeToString()


class Graph:
    """Nodes and weights, added one after the other; every method returns its output's name."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._random = np.random.default_rng(seed)

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=f"node_{name}", **attributes))
        return name

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def weight(self, *shape: int, scale: float) -> str:
        return self.constant(self._random.normal(0, scale, shape))

    def model(self, name: str, inputs: list[Any], output: tuple[str, list[Any]]) -> onnx.ModelProto:
        self.nodes.append(helper.make_node("Identity", [self.nodes[-1].output[0]], [output[0]]))
        graph = helper.make_graph(
            self.nodes, name, inputs,
            [helper.make_tensor_value_info(output[0], TensorProto.FLOAT, output[1])],
            self.weights,
        )  # fmt: skip
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])
        made.ir_version = 8
        return made


def transformer(
    *, layers: int = 6, width: int = 384, heads: int = 12, inner: int = 1536, words: int = 30522
) -> onnx.ModelProto:
    """ids, mask [batch, sequence] INT64 -> embedding [batch, width], mean over the sequence."""
    g = Graph(1)
    depth = width // heads
    x = g.node("Gather", g.weight(words, width, scale=0.05), "ids")
    mask = g.node("Cast", "mask", to=TensorProto.FLOAT)
    away = g.node("Mul", g.node("Sub", g.constant(1), mask), g.constant(-1e4))
    bias = g.node("Unsqueeze", away, g.constant([1, 2], np.int64))

    def dense(value: str, rows: int, columns: int) -> str:
        product = g.node("MatMul", value, g.weight(rows, columns, scale=rows**-0.5))
        return g.node("Add", product, g.weight(columns, scale=0.02))

    def split(value: str) -> str:
        parts = g.node("Reshape", value, g.constant([0, 0, heads, depth], np.int64))
        return g.node("Transpose", parts, perm=[0, 2, 1, 3])

    def norm(value: str) -> str:
        return g.node(
            "LayerNormalization", value, g.constant(np.ones(width)), g.constant(np.zeros(width))
        )

    for _ in range(layers):
        query, key, value = (split(dense(x, width, width)) for _ in range(3))
        scores = g.node("MatMul", query, g.node("Transpose", key, perm=[0, 1, 3, 2]))
        scores = g.node("Add", g.node("Div", scores, g.constant(depth**0.5)), bias)
        mixed = g.node("MatMul", g.node("Softmax", scores, axis=-1), value)
        joined = g.node("Transpose", mixed, perm=[0, 2, 1, 3])
        joined = g.node("Reshape", joined, g.constant([0, 0, width], np.int64))
        x = norm(g.node("Add", x, dense(joined, width, width)))
        hidden = dense(x, width, inner)
        erf = g.node("Erf", g.node("Div", hidden, g.constant(2**0.5)))
        active = g.node("Mul", hidden, g.node("Add", erf, g.constant(1)))
        active = g.node("Mul", active, g.constant(0.5))
        x = norm(g.node("Add", x, dense(active, inner, width)))
    weights = g.node("Unsqueeze", mask, g.constant([2], np.int64))
    total = g.node("ReduceSum", g.node("Mul", x, weights), g.constant([1], np.int64), keepdims=0)
    g.node("Div", total, g.node("ReduceSum", weights, g.constant([1], np.int64), keepdims=0))
    shape = ["batch", "sequence"]
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, shape) for n in ("ids", "mask")]
    return g.model("transformer", inputs, ("embedding", ["batch", width]))


def cnn(*, stages: tuple[int, ...] = (64, 128, 256, 512), size: int = 96) -> onnx.ModelProto:
    """image [batch, 3, size, size] FP32 -> logits [batch, 100]; two residual blocks a stage."""
    g = Graph(2)

    def conv(value: str, rows: int, columns: int, kernel: int, stride: int = 1) -> str:
        edge = kernel // 2
        scale = (2 / (rows * kernel * kernel)) ** 0.5
        return g.node(
            "Conv", value, g.weight(columns, rows, kernel, kernel, scale=scale),
            g.weight(columns, scale=0.01),
            kernel_shape=[kernel, kernel], strides=[stride, stride], pads=[edge] * 4,
        )  # fmt: skip

    x = g.node("Relu", conv("image", 3, stages[0], 3))
    channels = stages[0]
    for wide in stages:
        for block in range(2):
            stride = 2 if block == 0 and wide != stages[0] else 1
            inner = g.node("Relu", conv(x, channels, wide, 3, stride))
            inner = conv(inner, wide, wide, 3)
            past = x if stride == 1 and channels == wide else conv(x, channels, wide, 1, stride)
            # Halved, or else the sums grow from block to block.
            x = g.node("Relu", g.node("Mul", g.node("Add", inner, past), g.constant(0.5)))
            channels = wide
    flat = g.node("Flatten", g.node("GlobalAveragePool", x))
    g.node("Gemm", flat, g.weight(channels, 100, scale=channels**-0.5), g.weight(100, scale=0.1))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, size, size])
    return g.model("cnn", [image], ("logits", ["batch", 100]))


def small_cnn() -> bytes:
    """image [batch, 3, 64, 64] FP32 -> logits [batch, 100]; some 9 ms a row on one core."""
    return cnn(stages=(32, 64, 128), size=64).SerializeToString()


def _served() -> dict[str, Served]:
    random = np.random.default_rng(3)
    words = random.integers(0, 30_000, (1, TOKENS), dtype=np.int64)
    image = random.random((1, 3, 64, 64), dtype=np.float32)
    features = np.random.default_rng(6).standard_normal((1, FEATURES)).astype(np.float32)
    return {
        "mlp": Served("an MLP of 128 to 1", mlp, {"x": ROW}),
        "trees": Served(
            f"{TREES} boosted trees of depth {DEPTH} on {FEATURES} features", trees, {"x": features}
        ),
        "cnn": Served("a small residual CNN on images of 64 by 64", small_cnn, {"image": image}),
        "transformer": Served(
            f"a sentence transformer of 6 layers, 384 wide, on {TOKENS} tokens",
            lambda: transformer().SerializeToString(),
            {"ids": words, "mask": np.ones_like(words)},
        ),
    }


SERVED = _served()

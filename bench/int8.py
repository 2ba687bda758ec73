"""INT8 and FP16 variants of two models of usual size, by `slipway quantize` and `optimize`.

A sentence transformer (6 layers, 384 wide) and a residual CNN, both made here with random weights:
size and latency do not depend on what the weights are, differences do and are given all the same.
Writes bench/results/int8.{json,md}.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from environment import environment, publish
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[1]
SLIPWAY = Path(sys.executable).parent / "slipway"
_OPSET = 17


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


def images(count: int, size: int, seed: int) -> np.ndarray:
    """Smooth colours with some noise, more like photographs than white noise is."""
    random = np.random.default_rng(seed)
    coarse = random.normal(0, 1, (count, 3, 6, 6))
    large = np.kron(coarse, np.ones((1, 1, size // 6, size // 6)))
    return (large + random.normal(0, 0.1, large.shape)).astype(np.float32)


def sentences(count: int, length: int, words: int, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    lengths = random.integers(length // 4, length + 1, count)
    mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
    return {"ids": random.integers(0, words, (count, length)) * mask, "mask": mask}


def slipway(*arguments: object) -> Any:
    """Run the command; 12 means that it refused what it measured, which is a result too."""
    done = subprocess.run(
        [SLIPWAY, *map(str, arguments), "--json"], capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 12):
        raise SystemExit(done.stdout + done.stderr)
    return json.loads(done.stdout)


def measure(folder: Path, rounds: int) -> dict[str, Any]:
    words, size = 30522, 96
    onnx.save_model(transformer(words=words), str(folder / "transformer.onnx"))
    onnx.save_model(cnn(size=size), str(folder / "cnn.onnx"))
    np.savez(folder / "sentences.npz", **sentences(64, 32, words, 5))
    np.savez(folder / "seen.npz", **sentences(64, 32, words, 6))
    np.savez(folder / "images.npz", image=images(64, size, 7))
    np.savez(folder / "calibration.npz", image=images(64, size, 8))
    common = ("--rounds", rounds)
    text = (folder / "transformer.onnx", "--samples", folder / "sentences.npz", *common)
    image = (folder / "cnn.onnx", "--samples", folder / "images.npz", *common)
    static = ("--method", "int8-static", "--calibration", folder / "calibration.npz")
    return {
        "transformer": slipway(
            "quantize", *text, "--method", "int8-dynamic", "--method", "fp16",
            "--html", folder / "transformer.html",
        ),
        "transformer, optimized": slipway("optimize", *text),
        "cnn": slipway("quantize", *image, *static, "--method", "fp16",
                       "--html", folder / "cnn.html"),
        "cnn, optimized": slipway("optimize", *image),
    }  # fmt: skip


def table(results: dict[str, Any]) -> str:
    where, reports = results["environment"], results["reports"]
    processor = next(iter(reports.values()))["processor"]
    int8 = ", ".join(processor["int8"]) or "no INT8 dot products"
    head = ("model", "variant", "size", "load", "latency (quartiles)", "times as fast",
            "lowest cosine", "largest difference", "")  # fmt: skip
    lines = [
        "# INT8 and FP16 variants",
        "",
        f"{where['date']}, commit {where['commit']}: {processor['name']} ({int8}),",
        f"one thread of {where['cores']} cores, load {where['load_1m']} at the start. Weights are",
        "random: sizes and times are what such models have, differences are not. Batch 1; the",
        "transformer (6 layers, 384 wide) on 32 tokens, the CNN on 96 x 96 pixels. Medians of",
        "paired rounds; times as fast with their 95 % interval. `bench/int8.py` says how.",
        "",
        f"| {' | '.join(head)} |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, report in reports.items():
        for variant in ({"method": "original", **report["original"]}, *report["variants"]):
            latency, speed = variant["latency"], variant.get("speedUp")
            outputs = variant.get("outputs", [])
            low, high = latency["quartilesMs"]
            kept = (report["kept"] or {}).get("method") == variant["method"]
            judged = "refused" if variant.get("failures") else ("kept" if kept else "")
            cells = (
                name,
                variant["method"],
                f"{variant['size'] / 2**20:.1f} MiB",
                f"{variant['loadMs']:.0f} ms",
                f"{latency['medianMs']:.2f} ms ({low:.2f} to {high:.2f})",
                f"{speed['median']:.2f} ({speed['lower']:.2f} to {speed['upper']:.2f})"
                if speed
                else "",
                f"{min(o['lowestCosine'] for o in outputs):.5f}" if outputs else "",
                f"{max(o['maxAbsolute'] for o in outputs):.3g}" if outputs else "",
                judged,
            )
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Why variants were refused:", ""]
    lines += [
        f"- {name}, {variant['method']}: {failure}"
        for name, report in reports.items()
        for variant in report["variants"]
        for failure in variant["failures"]
    ]
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = {
            "environment": environment(),
            "reports": measure(Path(folder), arguments.rounds),
        }
        for page in Path(folder).glob("*.html"):
            if os.environ.get("KEEP_PAGES"):
                page.rename(Path(os.environ["KEEP_PAGES"]) / page.name)
    publish(arguments.output, "int8", results, table(results))


if __name__ == "__main__":
    main()

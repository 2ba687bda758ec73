"""What batches bring at many connections: the runtime as it is, beside itself with batches off.

    PYTHONPATH=tests/support uv run --frozen python bench/batching.py [--rounds 6] [--seconds 4]

The MLP of bench/serving.py, 100 trees of depth 6 on 32 features, and the transformer of
bench/raw_session.py on 32 tokens; one row a request, binary tensors, 128 connections. Both servers
have the same core with one thread and take turns as A B B A; the load has another core. Answers of
both must equal those of ONNX Runtime before anything is measured; a run with any answer that is not
2xx is void. Writes ``batching.json`` and ``batching.md``.
"""

from __future__ import annotations

import os
import statistics
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pairs
import raw_session
import serving
from onnx import TensorProto, helper
from runtime_kit.process import Server

CONNECTIONS = 128
TREES, DEPTH, FEATURES = 100, 6, 32

Json = dict[str, Any]
Feeds = dict[str, np.ndarray]


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


def models() -> dict[str, tuple[bytes, Feeds]]:
    row = np.random.default_rng(6).standard_normal((1, FEATURES)).astype(np.float32)
    return {
        "MLP": (serving.mlp(), {"x": serving.ROW}),
        "trees": (trees(), {"x": row}),
        "transformer": raw_session.models()["transformer"],
    }


def answers_as(content: bytes, feeds: Feeds, server: Server, asked: serving.Request) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    status, body, headers = serving.ask(server.port, asked)
    assert status == 200, body
    (wanted,) = session.run(None, feeds)
    got = np.frombuffer(body[int(headers["inference-header-content-length"]) :], wanted.dtype)
    np.testing.assert_allclose(got.reshape(wanted.shape), wanted, rtol=1e-4, atol=1e-5)


def compare(name: str, folder: Path, rounds: int, seconds: int) -> Json:
    content, feeds = models()[name]
    asked = raw_session.request(feeds)
    found: list[Json] = []
    with ExitStack() as stack:
        servers: dict[str, Server] = {}
        for way, extra in (("batches", {}), ("single", {"SLIPWAY_MAX_BATCH_SIZE": "1"})):
            one = Server(folder / way, content, extra={"SLIPWAY_INTRA_OP_THREADS": "1"} | extra)
            servers[way] = stack.enter_context(one)
            one.start().wait_until_ready(120)
            pairs.pin(one.process.pid)
            answers_as(content, feeds, one, asked)

        def run(way: str) -> Json:
            pid = servers[way].process.pid
            before = serving.ticks(pid)
            script = folder / "request.lua"
            done = serving.wrk(servers[way].port, asked, script, CONNECTIONS, seconds)
            return {
                "rate": done["rate"],
                "p50": done["p50"],
                "cpu": (serving.ticks(pid) - before) / done["requests"],
            }

        for way in servers:
            run(way)  # warms up, and lets the largest batches be met
        for number in range(rounds):
            order = list(servers) if number % 2 == 0 else list(servers)[::-1]
            found.append({way: run(way) for way in order})
            print(f"{name}: {number + 1} of {rounds}; load {os.getloadavg()}", flush=True)
    return pairs.ratios(found, "batches", "single")


def table(result: Json) -> str:
    lines = [
        *("# What batches bring", "", pairs.conditions(result, CONNECTIONS), ""),
        "| model | requests/s, batches | requests/s, none | ratio | ratio by processor time |",
        "|---|---:|---:|---|---|",
    ]
    for name, found in result["models"].items():
        rates = [
            statistics.median(pair[way]["rate"] for pair in found["pairs"])
            for way in ("batches", "single")
        ]
        shown = [
            f"{found[key]:.2f} ({low:.2f} to {high:.2f})"
            for key in ("rate", "cpu")
            for low, high in [found[f"{key}_interval"]]
        ]
        lines.append(f"| {name} | {rates[0]:,.0f} | {rates[1]:,.0f} | {shown[0]} | {shown[1]} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    pairs.run("batching", __doc__ or "", list(models()), compare, table, rounds=6, seconds=4)

"""What batches bring at many connections: the runtime as it is, beside itself with batches off.

    PYTHONPATH=tests/support uv run --frozen python bench/batching.py [--rounds 6] [--seconds 4]

The MLP, the trees and the transformer of bench/models.py; one row a request, binary tensors, 128
connections. Both servers have the same core with one thread and take turns as A B B A; the load has
another core. Answers of both must equal those of ONNX Runtime before anything is measured; a run
with any answer that is not 2xx is void. Writes ``batching.json`` and ``batching.md``.
"""

from __future__ import annotations

import os
import statistics
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pairs
import reference
import wrk
from models import SERVED
from request import Request, ask, v2_binary
from runtime_kit.process import Server
from server_process import ticks

CONNECTIONS = 128
MODELS = {"MLP": "mlp", "trees": "trees", "transformer": "transformer"}

Json = dict[str, Any]


def answers_as(truth: np.ndarray, server: Server, asked: Request) -> None:
    status, body, headers = ask(server.port, asked)
    assert status == 200, body
    reference.assert_equal(asked.output(body, headers), truth)


def compare(name: str, folder: Path, rounds: int, seconds: int) -> Json:
    served = SERVED[MODELS[name]]
    content, asked = served.content(), v2_binary(served.feeds)
    truth = reference.expected(content, served.feeds)
    found: list[Json] = []
    with ExitStack() as stack:
        servers: dict[str, Server] = {}
        for way, extra in (("batches", {}), ("single", {"SLIPWAY_MAX_BATCH_SIZE": "1"})):
            one = Server(folder / way, content, extra={"SLIPWAY_INTRA_OP_THREADS": "1"} | extra)
            servers[way] = stack.enter_context(one)
            one.start().wait_until_ready(120)
            pairs.pin(one.process.pid)
            answers_as(truth, one, asked)

        def run(way: str) -> Json:
            pid = servers[way].process.pid
            before = ticks(pid)
            script = folder / "request.lua"
            done = wrk.run(servers[way].port, asked, script, CONNECTIONS, seconds)
            return {
                "rate": done["rate"],
                "p50": done["p50"],
                "cpu": (ticks(pid) - before) / done["requests"],
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
    pairs.run("batching", __doc__ or "", list(MODELS), compare, table, rounds=6, seconds=4)

"""Large models: the runtime beside ONNX Runtime's own session in a loop, on the same core.

    PYTHONPATH=tests/support uv run --frozen python bench/raw_session.py [--rounds 10] [--seconds 5]

A transformer of 6 layers, 384 wide, on 32 tokens, and a small residual CNN on images of 64 by 64,
both of bench/int8.py, one row a request, binary tensors, 8 connections. Server and loop have the
same core and one thread each, and take turns as A B B A; the load has another core. Given are the
means of the ratios and their 95 % confidence intervals, by bootstrap over the rounds. A run with
any answer that is not 2xx is void. Writes ``raw_session.json`` and ``raw_session.md``.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import int8
import numpy as np
import pairs
import serving
from runtime_kit.process import Server

CONNECTIONS = 8
TOKENS = 32

Json = dict[str, Any]

RAW_LOOP = """
import os, sys, time
import numpy as np, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
feeds = dict(np.load(sys.argv[2]))
for _ in range(3):
    session.run(None, feeds)
print("ready", flush=True)
for line in sys.stdin:
    seconds, count, busy = float(line), 0, time.process_time()
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        session.run(None, feeds)
        count += 1
    spent = time.perf_counter() - began
    print(count / spent, (time.process_time() - busy) / count, flush=True)
"""


def models() -> dict[str, tuple[bytes, dict[str, np.ndarray]]]:
    random = np.random.default_rng(3)
    words = random.integers(0, 30_000, (1, TOKENS), dtype=np.int64)
    image = random.random((1, 3, 64, 64), dtype=np.float32)
    return {
        "transformer": (
            int8.transformer().SerializeToString(),
            {"ids": words, "mask": np.ones_like(words)},
        ),
        "cnn": (int8.cnn(stages=(32, 64, 128), size=64).SerializeToString(), {"image": image}),
    }


def request(feeds: dict[str, np.ndarray]) -> serving.Request:
    kinds = {"int64": "INT64", "float32": "FP32"}
    tensors = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": kinds[array.dtype.name],
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array in feeds.items()
    ]
    head = {"inputs": tensors, "parameters": {"binary_data_output": True}}
    header = json.dumps(head).encode()
    body = b"".join([header, *(array.tobytes() for array in feeds.values())])
    headers = {
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(len(header)),
    }
    return serving.Request("/v2/models/m/infer", body, serving.v2_output, headers)


def compare(name: str, folder: Path, rounds: int, seconds: int) -> Json:
    folder.mkdir()
    content, feeds = models()[name]
    np.savez(folder / "feeds.npz", **feeds)
    (folder / "model.onnx").write_bytes(content)
    asked = request(feeds)
    extra = {"SLIPWAY_INTRA_OP_THREADS": "1", "SLIPWAY_ACCESS_LOG": "true"}
    command = ["taskset", "--cpu-list", serving.SERVER_CORE, sys.executable, "-c", RAW_LOOP]
    with (
        Server(folder / "server", content, extra=extra) as server,
        subprocess.Popen(
            [*command, str(folder / "model.onnx"), str(folder / "feeds.npz")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"ORT_DISABLE_TELEMETRY": "1"},
        ) as raw,
    ):
        server.start().wait_until_ready(120)
        pid = server.process.pid
        pairs.pin(pid)
        assert raw.stdin is not None
        assert raw.stdout is not None
        raw.stdout.readline()

        def serve() -> Json:
            before = serving.ticks(pid)
            script = folder / "request.lua"
            run = serving.wrk(server.port, asked, script, CONNECTIONS, seconds)
            spent = serving.ticks(pid) - before
            return {"rate": run["rate"], "cpu": spent / run["requests"]}

        def loop() -> Json:
            raw.stdin.write(f"{seconds}\n")  # type: ignore[union-attr]
            raw.stdin.flush()  # type: ignore[union-attr]
            rate, cpu = map(float, raw.stdout.readline().split())  # type: ignore[union-attr]
            return {"rate": rate, "cpu": cpu}

        serve()
        found: list[Json] = []
        for number in range(rounds):
            first, second = (serve, loop) if number % 2 == 0 else (loop, serve)
            one, two = first(), second()
            served, plain = (one, two) if number % 2 == 0 else (two, one)
            found.append({"served": served, "raw": plain})
            print(f"{name}: {number + 1} of {rounds}; load {os.getloadavg()}", flush=True)
        raw.kill()
    return pairs.ratios(found, "served", "raw")


def table(result: Json) -> str:
    lines = [
        *(
            "# Large models beside `session.run` alone",
            "",
            pairs.conditions(result, CONNECTIONS),
            "",
        ),
        "| model | served rows/s | raw rows/s | rows/s, of raw | rows per CPU second, of raw |",
        "|---|---:|---:|---|---|",
    ]
    for name, of_model in result["models"].items():
        served, raw = (
            statistics.median(pair[side]["rate"] for pair in of_model["pairs"])
            for side in ("served", "raw")
        )
        shown = [
            f"{of_model[key]:.1%} ({low:.1%} to {high:.1%})"
            for key in ("rate", "cpu")
            for low, high in [of_model[f"{key}_interval"]]
        ]
        lines.append(f"| {name} | {served:.1f} | {raw:.1f} | {shown[0]} | {shown[1]} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    pairs.run("raw_session", __doc__ or "", list(models()), compare, table, rounds=10, seconds=5)

"""Large models: the runtime beside ONNX Runtime's own session in a loop, on the same core.

    PYTHONPATH=tests/support uv run --frozen python bench/raw_session.py [--rounds 10] [--seconds 5]

A transformer of 6 layers, 384 wide, on 32 tokens, and a small residual CNN on images of 64 by 64,
both of bench/models.py, one row a request, binary tensors, 8 connections. Server and loop have the
same core and one thread each, and take turns as A B B A; the load has another core. Given are the
means of the ratios and their 95 % confidence intervals, by bootstrap over the rounds. A run with
any answer that is not 2xx is void. Writes ``raw_session.json`` and ``raw_session.md``.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pairs
import wrk
from models import SERVED
from request import v2_binary
from runtime_kit.process import Server
from server_process import SERVER_CORE, ticks

CONNECTIONS = 8
MODELS = ("transformer", "cnn")

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


def compare(name: str, folder: Path, rounds: int, seconds: int) -> Json:
    folder.mkdir()
    content, feeds = SERVED[name].content(), SERVED[name].feeds
    np.savez(folder / "feeds.npz", **feeds)
    (folder / "model.onnx").write_bytes(content)
    asked = v2_binary(feeds)
    extra = {"SLIPWAY_INTRA_OP_THREADS": "1", "SLIPWAY_ACCESS_LOG": "true"}
    command = ["taskset", "--cpu-list", SERVER_CORE, sys.executable, "-c", RAW_LOOP]
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
            before = ticks(pid)
            script = folder / "request.lua"
            run = wrk.run(server.port, asked, script, CONNECTIONS, seconds)
            spent = ticks(pid) - before
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
            "The loop runs row after row; the server has rows share a run where load has shown",
            "that this gains, as with the transformer.",
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
    pairs.run("raw_session", __doc__ or "", MODELS, compare, table, rounds=10, seconds=5)

"""Whether the runtime's memory stays flat, and how soon it is ready: one core, a small MLP.

    PYTHONPATH=tests/support uv run --frozen python bench/steady.py [--requests 1000000]

A million requests as JSON over 32 connections, in runs of ten seconds; the resident memory of the
process is read after each. Before that so many starts, each from the start of the process to the
first 200 of its readiness. Ends with 1 if memory has grown by more than 1 MiB from the first
tenth of the requests to the last. Writes ``steady.json`` and ``steady.md``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import wrk
from environment import environment, publish
from models import SERVED
from peers import OURS, PEERS, running
from server_process import resident_mebibytes

CONNECTIONS = 32
RUN_SECONDS = 10
MOST_GROWTH_MEBIBYTES = 1.0

Json = dict[str, Any]


def measure(requests: int, starts: int) -> Json:
    peer = next(peer for peer in PEERS if peer.name == OURS)
    served = SERVED["mlp"]
    results: Json = {"environment": environment(), "start_seconds": [], "memory": []}
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "mlp.onnx"
        model.write_bytes(served.content())
        for number in range(starts + 1):
            with running(peer, Path(sys.prefix), model) as (_, _, seconds):
                if number:  # The first has read everything from disk.
                    results["start_seconds"].append(round(seconds, 3))
        with running(peer, Path(sys.prefix), model) as (pid, port, _):
            asked, sent = peer.request(served.feeds), 0
            while sent < requests:
                script = Path(folder) / "request.lua"
                run = wrk.run(port, asked, script, CONNECTIONS, RUN_SECONDS)
                sent += run["requests"]
                mebibytes = round(resident_mebibytes(pid), 2)
                results["memory"].append({"requests": sent, "mebibytes": mebibytes})
                print(f"{sent:,} requests: {mebibytes} MiB", flush=True)
    first = [m["mebibytes"] for m in results["memory"] if m["requests"] >= requests / 10]
    results["growth_mebibytes"] = round(first[-1] - first[0], 2)
    return results


def table(results: Json) -> str:
    where, memory = results["environment"], results["memory"]
    starts = sorted(results["start_seconds"])
    lines = [
        "# Memory over a million requests, and the start of a process",
        "",
        f"{where['date']}, commit {where['commit']}: {where['cores']} cores, server on one,",
        f"load {where['load_1m']} at the start. `bench/steady.py` says how.",
        "",
        f"From the start of the process to ready, in {len(starts)} starts: median",
        f"{statistics.median(starts):.2f} s, {starts[0]:.2f} to {starts[-1]:.2f} s.",
        "",
        "| requests answered | resident memory |",
        "|---:|---:|",
    ]
    step = max(1, len(memory) // 10)
    shown = [*memory[:-1:step], memory[-1]]
    lines += [f"| {item['requests']:,} | {item['mebibytes']:.1f} MiB |" for item in shown]
    lines += [
        "",
        f"Growth from the first tenth to the end: {results['growth_mebibytes']:.2f} MiB.",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--starts", type=int, default=15)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    results = measure(arguments.requests, arguments.starts)
    publish(arguments.results, "steady", results, table(results))
    return int(results["growth_mebibytes"] > MOST_GROWTH_MEBIBYTES)


if __name__ == "__main__":
    sys.exit(main())

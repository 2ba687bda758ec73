"""How the runtime scales from one worker to two, on a machine of two cores.

    PYTHONPATH=tests/support uv run --frozen python bench/workers.py [--rounds 5] [--seconds 4]

Models: one whose requests are all JSON (4,096 numbers in and out), one whose run takes some tenths
of a millisecond, without batches and with them (from one queue come larger batches, which cost less
for a row than those of two workers), and a small one whose requests cost as little as may be. Three
crews: one worker with one thread for a run, one with two, two with one each, in interleaved rounds.

The load (wrk) runs on the same two cores; the processor time that it takes is told, and so is what
is left of two cores without it: that, and not 2, is what can be reached. The server's own processor
time for a request is told beside the rates: where other work runs on the machine, rates tell of
that work, while two workers that need as much for a request as one give twice as much on two cores
that are free. Any answer but 200 makes a run void. Writes ``workers.json`` and ``workers.md``; ends
with 1 if JSON or the run without batches scale less than 1.7 times, by their processor time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from environment import environment, publish
from runtime_kit import onnx_models
from runtime_kit.process import Server

CONNECTIONS = 16
WANTED = 1.7
BINDING = ("JSON", "run, no batches")
CREWS = {"1 x 1": (1, 1), "1 x 2": (1, 2), "2 x 1": (2, 1)}
"""Workers and threads for a run."""

_CAPTION = (
    "Two workers against one: by rates as measured (and their range over the rounds), and by"
    " processor time, that is on two free cores with the load elsewhere."
)

Json = dict[str, Any]


def models() -> dict[str, tuple[bytes, Json, int]]:
    """What is served, the body that is posted to /predict, and the most rows of a batch."""
    numbers = [round(0.001 * number, 3) for number in range(4096)]
    dense, wide = onnx_models.dense(512, 6), {"x": [[1.0] * 512]}
    return {
        "JSON": (onnx_models.identity(), {"x": numbers}, 1),
        "run, no batches": (dense, wide, 1),
        "run, batches": (dense, wide, 32),
        "small": (onnx_models.linear(), {"x": [[1.0, 2.0, 3.0, 4.0]]}, 32),
    }


def start(folder: Path, content: bytes, rows: int, workers: int, threads: int) -> Server:
    extra = {
        "SLIPWAY_MAX_BATCH_SIZE": str(rows),
        "SLIPWAY_WORKERS": str(workers),
        "SLIPWAY_INTRA_OP_THREADS": str(threads),
        "SLIPWAY_DRAIN_DELAY_SECONDS": "0",
    }
    return Server(folder, content, extra=extra).start()


def cpu_seconds(server: Server) -> float:
    """Processor time of the server and of its workers so far."""
    total = 0
    for pid in (server.process.pid, *server.children()):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def load(server: Server, body: bytes, script: Path, seconds: int) -> Json:
    """One run of wrk; raises if any answer was not 2xx or was missing."""
    octets = "".join(f"\\{octet:03d}" for octet in body)
    script.write_text(
        f'wrk.method = "POST"\nwrk.body = "{octets}"\n'
        'wrk.headers["content-type"] = "application/json"\n'
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    served = cpu_seconds(server)
    began = time.monotonic()
    told = subprocess.run(
        [
            *("wrk", "--latency", "--threads", "1", "--connections", str(CONNECTIONS)),
            *("--duration", f"{seconds}s", "--script", str(script)),
            f"http://127.0.0.1:{server.port}/predict",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + 30,
    ).stdout
    took = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    served = cpu_seconds(server) - served
    if "Non-2xx" in told or "Socket errors" in told:
        raise RuntimeError(f"the run is void: {told}")
    count = re.search(r"(\d+) requests in", told)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", told)
    late = re.search(r"99%\s+(\S+)", told)
    assert count
    assert rate
    assert late
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "rate": float(rate[1]),
        "p99": late[1],
        "cpu_us": served / int(count[1]) * 1e6,
        "server_cores": served / took,
        "load_cores": cpu / took,
    }


def measure(rounds: int, seconds: int) -> Json:
    runs: dict[str, dict[str, list[Json]]] = {}
    for name, (content, document, rows) in models().items():
        body = json.dumps(document).encode()
        of_model = runs.setdefault(name, {crew: [] for crew in CREWS})
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            root = Path(folder)
            servers = {
                crew: stack.enter_context(
                    start(Path(folder) / str(number), content, rows, *of_crew)
                )
                for number, (crew, of_crew) in enumerate(CREWS.items())
            }
            answers = set[bytes]()
            for server in servers.values():
                server.wait_until_ready(60)
                answers.add(server.post("/predict", body).body)
            assert len(answers) == 1, "the crews answer differently"
            script = root / "load.lua"
            for number in range(rounds + 1):
                for crew, server in servers.items():
                    # The first round warms up and does not count.
                    run = load(server, body, script, seconds if number else 1)
                    if number:
                        of_model[crew].append(run)
                print(f"{name}: round {number} of {rounds}; load {os.getloadavg()}", flush=True)
    return {
        "environment": environment(),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "load_average_at_the_end": os.getloadavg(),
        "rounds": rounds,
        "seconds": seconds,
        "connections": CONNECTIONS,
        "runs": runs,
        "scaling": {name: scaling(of_model) for name, of_model in runs.items()},
    }


def middle(runs: list[Json], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def scaling(of_model: dict[str, list[Json]]) -> Json:
    """Two workers against one: in rates, round by round, and by what a request costs."""
    one, two = of_model["1 x 1"], of_model["2 x 1"]
    ratios = [of_two["rate"] / of_one["rate"] for of_one, of_two in zip(one, two, strict=True)]
    return {
        "rates": statistics.median(ratios),
        "least": min(ratios),
        "most": max(ratios),
        "by_cpu": 2 * middle(one, "cpu_us") / middle(two, "cpu_us"),
        "cores_left_by_the_load": 2 - middle(two, "load_cores"),
    }


def table(result: Json) -> str:
    where = result["environment"]
    told = (
        f"Taken {where['date']}, commit {where['commit']}, on {result['machine']}; load average"
        f" at the end {result['load_average_at_the_end'][0]:.1f}: above 2, other work ran beside"
        f" it. {result['connections']} connections, {result['rounds']} interleaved rounds of"
        f" {result['seconds']} s, medians. Server and wrk share two cores: what wrk takes is not"
        " there for the server. A crew is workers x threads for a run."
    )
    lines = [
        "# One worker and two",
        "",
        told,
        "",
        "| requests are | crew | requests/s | p99 | CPU µs / request | cores of server | of wrk |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for name, of_model in result["runs"].items():
        for crew, runs in of_model.items():
            late = runs[len(runs) // 2]["p99"]
            lines.append(
                f"| {name} | {crew} | {middle(runs, 'rate'):,.0f} | {late} |"
                f" {middle(runs, 'cpu_us'):,.0f} | {middle(runs, 'server_cores'):.2f} |"
                f" {middle(runs, 'load_cores'):.2f} |"
            )
    lines += [
        "",
        _CAPTION,
        "",
        "| requests are | by rates | range | by processor time | cores that wrk left |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, found in result["scaling"].items():
        lines.append(
            f"| {name} | {found['rates']:.2f} | {found['least']:.2f}-{found['most']:.2f} |"
            f" {found['by_cpu']:.2f} | {found['cores_left_by_the_load']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    result = measure(arguments.rounds, arguments.seconds)
    publish(arguments.results, "workers", result, table(result))
    short = [
        name
        for name, found in result["scaling"].items()
        if name in BINDING and found["by_cpu"] < WANTED
    ]
    if short:
        sys.exit(f"less than {WANTED} times: {', '.join(short)}")


if __name__ == "__main__":
    main()

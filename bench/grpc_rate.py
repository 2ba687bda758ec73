"""The runtime's gRPC beside grpc.aio as commonly written, in one run.

    PYTHONPATH=tests/support uv run --frozen python bench/grpc_rate.py [--rounds 5] [--seconds 3]

The MLP of bench/models.py, one row a call, raw contents. Servers have one core, the load another.
The load is a Python process that passes bytes on, and may be what limits the calls a second: the
processor time of the server for each call tells the servers apart. Answers must equal ONNX
Runtime's, and any failed call ends the run. Writes ``grpc.json`` and ``grpc.md``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import reference
from environment import environment, publish
from models import ROW, mlp
from peers import APPLICATIONS
from runtime_kit.process import Server
from server_process import LOAD_CORE, SERVER_CORE, ticks
from tritonclient.grpc import service_pb2

from slipway_dev.network import free_port

CONNECTIONS = (1, 8, 32)
HERE = Path(__file__).parent
OURS, PEER = "slipway", "grpc.aio as commonly written"

Json = dict[str, Any]


def request() -> bytes:
    made = service_pb2.ModelInferRequest(model_name="mlp")
    made.inputs.add(name="x", datatype="FP32", shape=[1, 128])
    made.raw_input_contents.append(ROW.tobytes())
    return made.SerializeToString()


@contextlib.contextmanager
def ours(folder: Path) -> Iterator[tuple[int, str]]:
    extra = {"SLIPWAY_GRPC_PORT": "0", "SLIPWAY_INTRA_OP_THREADS": "1"}
    with Server(folder, mlp(), name="mlp", extra=extra) as server:
        server.start()
        os.sched_setaffinity(server.process.pid, {int(SERVER_CORE)})
        server.wait_until_ready()
        for task in Path(f"/proc/{server.process.pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {int(SERVER_CORE)})
        yield server.process.pid, server.grpc_address


@contextlib.contextmanager
def peer(folder: Path) -> Iterator[tuple[int, str]]:
    model = folder / "mlp.onnx"
    model.write_bytes(mlp())
    port = free_port()
    program = [sys.executable, str(APPLICATIONS / "grpc_aio_server.py")]
    variables = {"MODEL": str(model), "PORT": str(port), "ORT_DISABLE_TELEMETRY": "1"}
    with subprocess.Popen(
        ["taskset", "--cpu-list", SERVER_CORE, *program], env=os.environ | variables
    ) as process:
        try:
            yield process.pid, f"127.0.0.1:{port}"
        finally:
            process.kill()


def check(address: str, truth: np.ndarray) -> None:
    """Wait for the server, and compare its answer."""
    with grpc.insecure_channel(address) as channel:
        grpc.channel_ready_future(channel).result(30)
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        answer = service_pb2.ModelInferResponse.FromString(call(request()))
    output = np.frombuffer(answer.raw_output_contents[0], np.float32)
    reference.assert_equal(output, truth)


def load(pid: int, address: str, body: Path, connections: int, seconds: float) -> Json:
    before = ticks(pid)
    program = [sys.executable, str(HERE / "grpc_load.py")]
    done = subprocess.run(
        [
            *("taskset", "--cpu-list", LOAD_CORE, *program),
            *(address, str(body), str(connections), str(seconds)),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + 60,
    )
    run: Json = json.loads(done.stdout)
    run["rate"] = run["calls"] / run["seconds"]
    run["cpu"] = (ticks(pid) - before) / (run["calls"] + connections) * 1000
    return run


def measure(rounds: int, seconds: float) -> Json:
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder = Path(temporary)
        (folder / "request").write_bytes(request())
        truth = reference.expected(mlp(), {"x": ROW})
        servers = {
            OURS: stack.enter_context(ours(folder / "ours")),
            PEER: stack.enter_context(peer(folder)),
        }
        for _, address in servers.values():
            check(address, truth)
        runs: dict[str, dict[str, list[Json]]] = {OURS: {}, PEER: {}}
        for number in range(rounds + 1):
            for connections in CONNECTIONS:
                for name in sorted(servers, reverse=bool(number % 2)):
                    pid, address = servers[name]
                    run = load(
                        pid, address, folder / "request", connections, seconds if number else 1
                    )
                    if number:  # The first round warms up.
                        runs[name].setdefault(str(connections), []).append(run)
            print(f"round {number} of {rounds}; load {os.getloadavg()}", flush=True)
    return {
        "environment": environment(),
        "taken": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "load_average_at_the_end": os.getloadavg(),
        "rounds": rounds,
        "seconds": seconds,
        "runs": runs,
    }


def table(result: Json) -> str:
    told = (
        f"Taken {result['taken']}, load average at the end"
        f" {result['load_average_at_the_end'][0]:.1f}: above 2, other work ran beside it. The MLP,"
        f" one row a call; {result['rounds']} interleaved rounds of {result['seconds']:g} s,"
        " medians. The load is a Python process and may limit the calls a second."
    )
    lines = [
        "# gRPC beside grpc.aio as commonly written",
        "",
        told,
        "",
        "| connections | server | calls/s | p50 µs | p99 µs | CPU s / 1,000 calls |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    for connections in map(str, CONNECTIONS):
        for name, of_server in result["runs"].items():
            middle = {
                key: statistics.median(run[key] for run in of_server[connections])
                for key in ("rate", "p50", "p99", "cpu")
            }
            lines.append(
                f"| {connections} | {name} | {middle['rate']:,.0f} | {middle['p50']:,.0f} |"
                f" {middle['p99']:,.0f} | {middle['cpu']:.3f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    arguments = parser.parse_args()
    result = measure(arguments.rounds, arguments.seconds)
    publish(arguments.results, "grpc", result, table(result))


if __name__ == "__main__":
    main()

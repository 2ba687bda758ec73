"""The runtime beside other Python servers on the same machine, in one run.

    uv run --frozen python bench/serving.py [--rounds 5] [--seconds 3] [--peers fastapi,mlserver]

An MLP of 128 to 1, one row a request. The runtime writes its access log, the peers write none.
Peers are installed from PyPI into environments of their own. Every server runs on one core and wrk
on another; before anything is measured all outputs must equal those of ONNX Runtime itself. Rounds
are interleaved: each goes through all servers, of which one at a time may run while the others are
stopped. A run with any answer that is not 2xx is void.
Each round ends with a fixed rate of requests. Writes ``serving.json`` and ``serving.md`` into the
results folder.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import json
import os
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import fixed_rate
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
PEERS = HERE / "serving_peers"
SERVER_CORE, LOAD_CORE = "0", "1"
CONNECTIONS = (1, 8, 32, 128)
OURS = "slipway, JSON"
RATE, AT_RATE = 300, "at a fixed rate"
ROW = np.random.default_rng(7).standard_normal((1, 128)).astype(np.float32)

Json = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """What is sent, and how the output is found in the answer."""

    path: str
    body: bytes
    output: Callable[[bytes, Json], list[float]]
    headers: Json = field(default_factory=lambda: {"content-type": "application/json"})


@dataclass(frozen=True)
class Peer:
    """A server: what it needs from PyPI, and how it is started on a port."""

    name: str
    packages: tuple[str, ...]
    command: Callable[[Path, Path, int], list[str]]
    ready: str
    request: Request
    environment: Callable[[Path, int], dict[str, str]] = lambda _model, _port: {}


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


def v2_body() -> bytes:
    tensor = {"name": "x", "shape": [1, 128], "datatype": "FP32", "data": ROW[0].tolist()}
    return json.dumps({"inputs": [tensor]}).encode()


def v2_output(body: bytes, _headers: Json) -> list[float]:
    return json.loads(body)["outputs"][0]["data"]


def binary_request() -> Request:
    data = ROW.tobytes()
    tensor = {
        "name": "x",
        "shape": [1, 128],
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(data)},
    }
    header = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()

    def output(body: bytes, headers: Json) -> list[float]:
        length = int(headers["inference-header-content-length"])
        return np.frombuffer(body[length:], np.float32).tolist()

    headers = {
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(len(header)),
    }
    return Request("/v2/models/mlp/infer", header + data, output, headers)


def peers() -> list[Peer]:
    json_request = Request("/v2/models/mlp/infer", v2_body(), v2_output)
    plain = Request(
        "/predict",
        json.dumps({"features": ROW[0].tolist()}).encode(),
        lambda body, _: [json.loads(body)["prediction"]],
    )

    def slipway(_environment: Path, model: Path, _port: int) -> list[str]:
        program = Path(sys.executable).parent / "slipway-runtime"
        digest = hashlib.sha256(model.read_bytes()).hexdigest()
        return [str(program), "serve", "--digest", f"sha256:{digest}", "--name", "mlp"]

    def slipway_environment(model: Path, port: int) -> dict[str, str]:
        cache = model.parent / "cache"
        entry = cache / "sha256" / hashlib.sha256(model.read_bytes()).hexdigest()
        entry.mkdir(parents=True, exist_ok=True)
        shutil.copy(model, entry / "model.onnx")
        return {
            "SLIPWAY_CACHE_DIR": str(cache),
            "SLIPWAY_HOST": "127.0.0.1",
            "SLIPWAY_PORT": str(port),
            "SLIPWAY_TERMINATION_LOG": str(model.parent / "termination"),
            "SLIPWAY_ACCESS_LOG": "true",
        }

    def fastapi(application: str) -> Callable[[Path, Path, int], list[str]]:
        return lambda environment, _model, port: [
            str(environment / "bin/uvicorn"),
            application,
            *("--app-dir", str(PEERS), "--host", "127.0.0.1", "--port", str(port)),
            *("--loop", "uvloop", "--http", "httptools", "--log-level", "warning"),
            *("--no-access-log", "--workers", "1"),
        ]

    def script(name: str) -> Callable[[Path, Path, int], list[str]]:
        return lambda environment, _model, _port: [
            str(environment / "bin/python"),
            str(PEERS / name),
        ]

    fast = ("fastapi", "uvicorn[standard]", "onnxruntime", "numpy")
    return [
        Peer(OURS, (), slipway, "/v2/health/ready", json_request, slipway_environment),
        Peer(
            "slipway, binary",
            (),
            slipway,
            "/v2/health/ready",
            binary_request(),
            slipway_environment,
        ),
        Peer("fastapi, def", fast, fastapi("fastapi_app:app"), "/health", plain),
        Peer("fastapi, async def", fast, fastapi("fastapi_app:async_app"), "/health", plain),
        Peer(
            "mlserver",
            ("mlserver", "onnxruntime"),
            lambda environment, model, port: [
                str(environment / "bin/mlserver"),
                "start",
                str(_mlserver_folder(model, port)),
            ],
            "/v2/models/mlp/ready",
            json_request,
        ),
        Peer(
            "kserve",
            ("kserve", "onnxruntime"),
            script("kserve_server.py"),
            "/v2/models/mlp/ready",
            json_request,
        ),
        Peer(
            "litserve",
            ("litserve", "onnxruntime", "numpy"),
            script("litserve_server.py"),
            "/health",
            plain,
        ),
        Peer(
            "bentoml",
            ("bentoml", "onnxruntime", "numpy"),
            lambda environment, _model, port: [
                *(str(environment / "bin/bentoml"), "serve", "bentoml_service:Mlp"),
                *("--working-dir", str(PEERS), "--host", "127.0.0.1", "--port", str(port)),
            ],
            "/readyz",
            plain,
            lambda _model, _port: {"BENTOML_DO_NOT_TRACK": "True"},
        ),
    ]


def _mlserver_folder(model: Path, port: int) -> Path:
    folder = model.parent / "mlserver"
    folder.mkdir(exist_ok=True)
    shutil.copy(PEERS / "mlserver_model.py", folder)
    settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": port + 1000}
    settings |= {"metrics_port": port + 2000, "parallel_workers": 0, "debug": False}
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(
        json.dumps({"name": "mlp", "implementation": "mlserver_model.Onnx"})
    )
    return folder


def environment_of(peer: Peer, folder: Path) -> Path | None:
    """Make the peer's environment; None if it cannot be installed."""
    if not peer.packages:
        return Path(sys.prefix)
    target = folder / peer.name.split(",")[0]
    if (target / "installed").exists():
        return target
    uv = os.environ.get("UV") or shutil.which("uv") or "uv"
    print(f"installing {peer.name}", flush=True)
    subprocess.run([uv, "venv", "--quiet", "--allow-existing", str(target)], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", str(target / "bin/python")]
    if subprocess.run([*install, *peer.packages], check=False, timeout=600).returncode != 0:
        return None
    (target / "installed").touch()
    return target


@contextlib.contextmanager
def running(peer: Peer, environment: Path, model: Path) -> Iterator[tuple[int, int, float]]:
    """Start the server on its core and wait until it is ready: process, port, seconds it took."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    inherited = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    variables = {
        "MODEL": str(model),
        "PORT": str(port),
        "PYTHONPATH": str(PEERS) if peer.name == "mlserver" else "",
        "ORT_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": "1",
        **peer.environment(model, port),
    }
    log = (model.parent / f"{peer.name.replace(' ', '-')}.log").open("w")
    began = time.perf_counter()
    process = subprocess.Popen(
        ["taskset", "--cpu-list", SERVER_CORE, *peer.command(environment, model, port)],
        env=inherited | variables,
        stdout=log,
        stderr=log,
        cwd=model.parent,  # LitServe writes a client into its working directory.
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                if ask(port, Request(peer.ready, b"", v2_output), "GET")[0] == 200:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{peer.name} did not start, see {log.name}")
            time.sleep(0.01)
        yield process.pid, port, time.perf_counter() - began
    finally:
        _signal(process.pid, signal.SIGKILL)
        process.wait()
        log.close()


def ask(port: int, request: Request, method: str = "POST") -> tuple[int, bytes, Json]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, request.path, request.body or None, dict(request.headers))
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, response.read(), headers
    finally:
        connection.close()


def _family(root: int) -> dict[int, list[str]]:
    """What /proc tells of a process and its descendants, behind the name, by process.

    Not by process group: BentoML gives each of its workers a session of its own.
    """
    told: dict[int, list[str]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            told[int(stat.parent.name)] = stat.read_text().rpartition(")")[2].split()
    kin = {root}
    while grown := {pid for pid, fields in told.items() if int(fields[1]) in kin} - kin:
        kin |= grown
    return {pid: told[pid] for pid in kin if pid in told}


@contextlib.contextmanager
def awake(root: int) -> Iterator[None]:
    """Let a server that is stopped run for a while: an idle one takes its part of the core, too."""
    _signal(root, signal.SIGCONT)
    try:
        yield
    finally:
        _signal(root, signal.SIGSTOP)


def _signal(root: int, number: signal.Signals) -> None:
    for pid in _family(root):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def cpu_seconds(root: int) -> float:
    """The processor time of a process and its descendants."""
    total = sum(int(fields[11]) + int(fields[12]) for fields in _family(root).values())
    return total / os.sysconf("SC_CLK_TCK")


def resident_mebibytes(root: int) -> float:
    """The resident memory of a process and its descendants; what they share counts for each."""
    total = sum(int(fields[21]) for fields in _family(root).values())
    return total * os.sysconf("SC_PAGE_SIZE") / 2**20


def ticks(pid: int) -> float:
    """The processor time of one process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wrk(port: int, request: Request, script: Path, connections: int, seconds: int) -> Json:
    """One run of load; raises if any answer was not 2xx or was missing."""
    octets = "".join(f"\\{octet:03d}" for octet in request.body)
    headers = "".join(f'wrk.headers["{k}"] = "{v}"\n' for k, v in request.headers.items())
    script.write_text(f'wrk.method = "POST"\nwrk.body = "{octets}"\n{headers}')
    done = subprocess.run(
        [
            *("taskset", "--cpu-list", LOAD_CORE, "wrk", "--latency", "--threads", "1"),
            *("--connections", str(connections), "--duration", f"{seconds}s"),
            *("--script", str(script), f"http://127.0.0.1:{port}{request.path}"),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + 30,
    ).stdout
    if "Non-2xx" in done or "Socket errors" in done:
        raise RuntimeError(f"the run is void: {done}")
    found = re.search(r"(\d+) requests in", done)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done)
    assert found
    assert rate
    percentiles = dict(re.findall(r"(50|99)%\s+([\d.]+\w+)", done))
    return {
        "requests": int(found[1]),
        "rate": float(rate[1]),
        "p50": microseconds(percentiles["50"]),
        "p99": microseconds(percentiles["99"]),
    }


def microseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]


def expected(model: Path) -> tuple[list[float], float]:
    """What ONNX Runtime itself gives, and how many runs a second it does on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {"x": ROW})[0]
    started, count = time.perf_counter(), 20_000
    for _ in range(count):
        session.run(None, {"x": ROW})
    return outputs.reshape(-1).tolist(), count / (time.perf_counter() - started)


def measure(arguments: argparse.Namespace) -> Json:
    wanted = [name.strip() for name in arguments.peers.split(",")]
    chosen = [peer for peer in peers() if peer.name.split(",")[0] in ("slipway", *wanted)]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        model = Path(folder) / "mlp.onnx"
        model.write_bytes(mlp())
        truth, raw = expected(model)
        served: list[tuple[Peer, int, int]] = []
        left_out: dict[str, str] = {}
        costs: dict[str, dict[str, float]] = {}
        for peer in chosen:
            environment = environment_of(peer, Path(arguments.environments))
            if environment is None:
                left_out[peer.name] = "cannot be installed"
                continue
            try:
                # The first start has compiled what it imports, and read it from disk.
                with running(peer, environment, model):
                    pass
                pid, port, took = stack.enter_context(running(peer, environment, model))
                status, body, headers = ask(port, peer.request)
                assert status == 200, body
                output = np.ravel(peer.request.output(body, headers))
                assert np.allclose(output, truth, rtol=1e-5, atol=1e-6), (output, truth)
            except (RuntimeError, AssertionError, KeyError) as error:
                left_out[peer.name] = str(error)[:300]
                print(f"{peer.name} is left out: {error}", flush=True)
                continue
            _signal(pid, signal.SIGSTOP)
            served.append((peer, pid, port))
            costs[peer.name] = {"start_seconds": took}
        runs: dict[str, dict[str, list[Json]]] = {}
        for number in range(arguments.rounds + 1):
            for connections in CONNECTIONS:
                for peer, pid, port in served:
                    script = Path(folder) / "request.lua"
                    before = cpu_seconds(pid)
                    # The first round warms up and does not count.
                    seconds = arguments.seconds if number else 1
                    with awake(pid):
                        run = wrk(port, peer.request, script, connections, seconds)
                    run["cpu"] = (cpu_seconds(pid) - before) / run["requests"] * 1000
                    if number:
                        of_peer = runs.setdefault(peer.name, {})
                        of_peer.setdefault(str(connections), []).append(run)
            for peer, pid, port in served if number else ():
                head = fixed_rate.head_of(
                    peer.request.path, peer.request.headers, len(peer.request.body)
                )
                with awake(pid):
                    paced = fixed_rate.run(
                        port, head + peer.request.body, RATE, arguments.seconds, LOAD_CORE
                    )
                runs[peer.name].setdefault(AT_RATE, []).append(paced)
            print(f"round {number} of {arguments.rounds}; load {os.getloadavg()}", flush=True)
        for peer, pid, _ in served:
            costs[peer.name]["mebibytes"] = resident_mebibytes(pid)
    return {
        "taken": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "load_average_at_the_end": os.getloadavg(),
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        "session_run_per_second": raw,
        "left_out": left_out,
        "costs": costs,
        "runs": runs,
    }


def middle(runs: Sequence[Json], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def _ratios(runs: Mapping[str, Mapping[str, list[Json]]]) -> Iterator[str]:
    """How many times as many requests our JSON gets as each peer, round by round."""
    ours = runs[OURS]
    yield f"How many times the requests/s of a peer `{OURS}` answers: median and range of the"
    yield "rounds, each against the same round of the peer."
    yield ""
    yield f"| peer, at so many connections | {' | '.join(map(str, CONNECTIONS))} |"
    yield f"|---|{'---:|' * len(CONNECTIONS)}"
    for name, of_peer in runs.items():
        if name.startswith("slipway"):
            continue
        cells: list[str] = []
        for connections in map(str, CONNECTIONS):
            pairs = zip(ours[connections], of_peer[connections], strict=True)
            times = sorted(mine["rate"] / theirs["rate"] for mine, theirs in pairs)
            median = statistics.median(times)
            cells.append(f"**{median:.1f}** ({times[0]:.1f}-{times[-1]:.1f})")
        yield f"| {name} | {' | '.join(cells)} |"


def table(result: Json) -> str:
    load = result["load_average_at_the_end"][0]
    told = (
        f"Taken {result['taken']} on {result['machine']}, Linux {result['kernel']}, Python"
        f" {result['python']}, ONNX Runtime {result['onnxruntime']}. Load average at the end"
        f" {load:.1f}: above 2, other work ran beside it. Server on one core, wrk on another;"
        f" {result['rounds']} interleaved rounds of {result['seconds']} s; medians, and the range"
        " of the rounds. `session.run` alone, on an unpinned thread:"
        f" {result['session_run_per_second']:,.0f}/s."
    )
    lines = ["# Serving an MLP, one row a request", "", told, "", *_ratios(result["runs"])]
    for connections in map(str, CONNECTIONS):
        lines += [
            "",
            f"## {connections} connection{'s' if connections != '1' else ''}",
            "",
            "| server | requests/s | range | p50 µs | p99 µs | CPU s / 1,000 requests |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        for name, of_peer in result["runs"].items():
            runs = of_peer[connections]
            rates = [run["rate"] for run in runs]
            lines.append(
                f"| {name} | {middle(runs, 'rate'):,.0f} | {min(rates):,.0f}-{max(rates):,.0f} |"
                f" {middle(runs, 'p50'):,.0f} | {middle(runs, 'p99'):,.0f} |"
                f" {middle(runs, 'cpu'):.3f} |"
            )
    lines += [
        "",
        f"## {RATE} requests/s, whether or not the server keeps up",
        "",
        "| server | p50 µs | p99 µs |",
        "|---|---:|---:|",
        *(
            f"| {name} | {middle(of_peer[AT_RATE], 'p50'):,.0f} |"
            f" {middle(of_peer[AT_RATE], 'p99'):,.0f} |"
            for name, of_peer in result["runs"].items()
        ),
        "",
        "## What a server costs",
        "",
        "| server | start to ready, once | resident memory at the end |",
        "|---|---:|---:|",
        *(
            f"| {name} | {cost['start_seconds']:.2f} s | {cost['mebibytes']:,.0f} MiB |"
            for name, cost in result["costs"].items()
        ),
    ]
    for name, reason in result["left_out"].items():
        lines += ["", f"Left out: {name} ({' '.join(reason.split())})"]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--peers", default="fastapi,mlserver,kserve,litserve,bentoml")
    parser.add_argument("--environments", default=str(Path.home() / ".cache/slipway-bench"))
    parser.add_argument("--results", default=str(HERE / "results"))
    arguments = parser.parse_args()
    result = measure(arguments)
    results = Path(arguments.results)
    results.mkdir(parents=True, exist_ok=True)
    (results / "serving.json").write_text(json.dumps(result, indent=1) + "\n")
    text = table(result)
    (results / "serving.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The runtime beside other Python servers on the same machine, in one run.

    uv run --frozen python bench/serving.py [--model mlp trees cnn transformer] [--rounds 1]
        [--seconds 1] [--peers fastapi mlserver kserve litserve bentoml]

The models of bench/models.py, one row a request. The runtime writes its access log, the peers write
none. Peers are installed from PyPI into environments of their own. Every server runs on one core
and the load on another; before anything is measured all outputs must equal those of ONNX Runtime
itself. Rounds are interleaved: each goes through all servers, of which one at a time may run while
the others are stopped. A run of wrk or at a fixed rate with any answer that is not 2xx is void.

A round is wrk with so many connections, and a fixed rate of requests. With the MLP it ends with
twice the requests that the server has answered at its best in that round (bench/overload.py): there
answers other than 2xx, such as 429, make no run void, but are not good.

Writes ``serving.json`` and ``serving.md`` for the MLP, ``serving_models.json`` and
``serving_models.md`` for the others, where the models that are not measured keep what they have.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import fixed_rate
import installed
import overload
import reference
import serving_tables
import wrk
from environment import environment, publish
from models import SERVED, Feeds
from peers import PEERS, Peer, environment_of, running
from request import Request, ask
from server_process import (
    LOAD_CORE,
    awake,
    cpu_seconds,
    resident_mebibytes,
    send,
)

from slipway_dev import images, paths
from slipway_dev.errors import DevError

RESULTS = Path(__file__).parent / "results"
ALONE = "mlp"
"""The model that has a page of its own."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What is measured with a model; slow ones tell little more at other numbers of connections.

    What is still under way at the end of a run does not count: slow models have longer runs.
    """

    rate: int
    connections: tuple[int, ...] = (8, 32)
    rounds: int = 3
    seconds: int = 2
    starts: int = 1
    overloaded: bool = False


PLANS = {
    "mlp": Plan(300, connections=(1, 8, 32, 128), rounds=4, starts=3, overloaded=True),
    "trees": Plan(300),
    "cnn": Plan(20, seconds=3),
    "transformer": Plan(20, seconds=3),
}


@dataclass
class Server:
    """A server that is up, and stopped while others are measured."""

    peer: Peer
    request: Request
    pid: int
    port: int

    def octets(self) -> bytes:
        """The request as it goes over the wire."""
        asked = self.request
        return fixed_rate.head_of(asked.path, asked.headers, len(asked.body)) + asked.body


@dataclass
class Servers:
    """Those that are up, why others are not, and what each took to start."""

    up: list[Server] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    costs: dict[str, Json] = field(default_factory=dict)


def started(
    stack: contextlib.ExitStack, peer: Peer, home: Path, model: Path, starts: int, feeds: Feeds
) -> tuple[Server, list[float]]:
    """A server that is ready, and the seconds of so many starts.

    Raises:
        RuntimeError: it did not get ready.
    """
    # The first start has compiled what it imports, and read it from disk.
    seconds = list[float]()
    for _ in range(starts):
        with running(peer, home, model) as (_, _, took):
            seconds.append(took)
    pid, port, took = stack.enter_context(running(peer, home, model))
    return Server(peer, peer.request(feeds), pid, port), [*seconds[1:], took]


def checked(server: Server, truth: Any) -> None:
    """Hold a server's answer to what ONNX Runtime gives.

    Raises:
        AssertionError: it differs, or there is none.
    """
    status, body, headers = ask(server.port, server.request)
    assert status == 200, body
    reference.assert_equal(server.request.output(body, headers), truth)


def start_all(
    stack: contextlib.ExitStack, chosen: list[Peer], homes: Path, name: str, model: Path
) -> Servers:
    """Start one server after the other, compare its answer, and stop it."""
    feeds, starts = SERVED[name].feeds, PLANS[name].starts
    truth = reference.expected(model.read_bytes(), feeds)
    servers = Servers()
    for peer in chosen:
        home = environment_of(peer, homes)
        if home is None:
            servers.left_out[peer.name] = "cannot be installed"
            continue
        try:
            server, seconds = started(stack, peer, home, model, starts, feeds)
            checked(server, truth)
        except (RuntimeError, AssertionError, KeyError, OSError) as error:
            servers.left_out[peer.name] = str(error)[:300]
            print(f"{peer.name} is left out: {error}", flush=True)
            continue
        send(server.pid, signal.SIGSTOP)
        servers.up.append(server)
        servers.costs[peer.name] = {"start_seconds": seconds}
    return servers


def or_void(measured: Callable[[], Json]) -> Json:
    """What was measured, or why it does not count."""
    try:
        return measured()
    except (RuntimeError, OSError) as error:
        return {"void": " ".join(str(error).split())[:300]}


def with_wrk(server: Server, script: Path, connections: int, seconds: int) -> Json:
    """One run of wrk; with the processor time of the server for 1,000 requests."""
    with awake(server.pid):
        before = cpu_seconds(server.pid)
        run = wrk.run(server.port, server.request, script, connections, seconds)
        run["cpu"] = (cpu_seconds(server.pid) - before) / run["requests"] * 1000
    return run


def at_fixed_rate(server: Server, rate: int, seconds: int) -> Json:
    with awake(server.pid):
        return fixed_rate.run(server.port, server.octets(), rate, seconds, LOAD_CORE)


def overloaded(server: Server, peak: float, seconds: int) -> Json:
    """What is answered in time when twice the peak is asked."""
    with awake(server.pid):
        run = overload.run(
            server.port, server.octets(), 2 * peak, seconds, LOAD_CORE, server.peer.ready
        )
    return {"peak": peak, **run, "of_peak": run["good"] / peak}


def one_round(servers: list[Server], plan: Plan, folder: Path) -> dict[str, Json]:
    """By server, then by number of connections or kind of load: what was measured."""
    told: dict[str, Json] = {server.peer.name: {} for server in servers}
    script = folder / "request.lua"
    for connections in plan.connections:
        for server in servers:
            told[server.peer.name][str(connections)] = or_void(
                lambda server=server, connections=connections: with_wrk(
                    server, script, connections, plan.seconds
                )
            )
    for server in servers:
        told[server.peer.name][serving_tables.AT_RATE] = or_void(
            lambda server=server: at_fixed_rate(server, plan.rate, plan.seconds)
        )
    for server in servers if plan.overloaded else ():
        rates = [run["rate"] for run in told[server.peer.name].values() if "rate" in run]
        if not rates:
            continue
        peak = max(rates)
        told[server.peer.name][serving_tables.AT_TWICE] = or_void(
            lambda server=server, peak=peak: overloaded(server, peak, plan.seconds)
        )
    return told


def measure(name: str, plan: Plan, chosen: list[Peer], homes: Path) -> Json:
    """All servers with one model."""
    served = SERVED[name]
    where = environment()
    runs: dict[str, dict[str, list[Json]]] = {}
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder = Path(temporary)
        model = folder / "model.onnx"
        model.write_bytes(served.content())
        alone = reference.runs_per_second(model.read_bytes(), served.feeds)
        servers = start_all(stack, chosen, homes, name, model)
        # The first round warms up and does not count.
        one_round(servers.up, replace(plan, seconds=1, overloaded=False), folder)
        for number in range(plan.rounds):
            told = one_round(servers.up, plan, folder)
            for peer, loads in told.items():
                for load, run in loads.items():
                    runs.setdefault(peer, {}).setdefault(load, []).append(run)
            done = f"{name}: round {number + 1} of {plan.rounds}"
            print(f"{done}; load {os.getloadavg()}", flush=True)
        for server in servers.up:
            servers.costs[server.peer.name]["mebibytes"] = resident_mebibytes(server.pid)
    return {
        "environment": where,
        "taken": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "kernel": platform.release(),
        "load_average_at_the_end": os.getloadavg(),
        "model": served.about,
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "connections": plan.connections,
        "rate": plan.rate,
        "deadline_seconds": overload.DEADLINE_SECONDS,
        "session_run_per_second": alone,
        "versions": versions(chosen, homes),
        "left_out": servers.left_out,
        "costs": servers.costs,
        "runs": runs,
    }


def versions(chosen: list[Peer], homes: Path) -> dict[str, dict[str, str]]:
    """By server: its own version, that of its Python, and of what it needs to serve the model."""
    told: dict[str, dict[str, str]] = {}
    for peer in chosen:
        packages = peer.packages or ("slipway-runtime", "onnxruntime", "numpy")
        if peer.product not in told and (home := environment_of(peer, homes)) is not None:
            told[peer.product] = installed.versions(home, packages)
    return told


def sizes(chosen: list[Peer], homes: Path) -> Json:
    """In bytes: our images where they were built here, and what each server needs from PyPI."""
    try:
        told: Json = {"images": images.built()}
    except DevError as error:
        print(f"no sizes of images: {error}", flush=True)
        told = {"images": {}}
    ours = installed.pinned(paths.repository() / "runtime/requirements-cpu.txt")
    told["packages"] = {"slipway": installed.bytes_of(Path(sys.prefix), ours)}
    for peer in chosen:
        if not peer.ours and (home := environment_of(peer, homes)) is not None:
            told["packages"][peer.product] = installed.bytes_of_all(home)
    return told


def keep(folder: Path, found: dict[str, Json]) -> None:
    """Write the page of the MLP, and that of the others."""
    if ALONE in found:
        publish(folder, "serving", found[ALONE], serving_tables.page(found[ALONE]))
    others = {name: result for name, result in found.items() if name != ALONE}
    if others:
        before = folder / "serving_models.json"
        kept = json.loads(before.read_text()) if before.exists() else {}
        merged = {name: (kept | others)[name] for name in PLANS if name in kept | others}
        publish(folder, "serving_models", merged, serving_tables.models_page(merged))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    products = list(dict.fromkeys(peer.product for peer in PEERS if not peer.ours))
    parser.add_argument("--model", nargs="+", choices=PLANS, default=list(PLANS))
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=int)
    parser.add_argument("--peers", nargs="*", choices=products, default=products)
    parser.add_argument("--environments", type=Path, default=Path.home() / ".cache/slipway-bench")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    # Servers inherit it, and have more connections than many a shell allows.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    chosen = [peer for peer in PEERS if peer.ours or peer.product in arguments.peers]
    for name in arguments.model:
        plan = PLANS[name]
        plan = replace(
            plan,
            rounds=arguments.rounds or plan.rounds,
            seconds=arguments.seconds or plan.seconds,
        )
        result = measure(name, plan, chosen, arguments.environments)
        if name == ALONE:
            result["bytes"] = sizes(chosen, arguments.environments)
        keep(arguments.results, {name: result})


if __name__ == "__main__":
    main()

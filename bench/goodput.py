"""What the runtime still answers when more is asked than it can do.

    PYTHONPATH=tests/support uv run --frozen python bench/goodput.py [--rounds 3] [--seconds 5]

A model of some milliseconds. First the peak: as many answers a second as eight connections get
that ask one after the other. Then an open loop: requests begin at 0.5, 1, 2 and 4 times that rate
whether or not earlier ones are answered. Goodput counts the answers 200 that came within a second;
all others must be 429 with Retry-After. The server has one core and the load another. Writes
``goodput.json`` and ``goodput.md``; ends with 1 if goodput at twice the peak is below 90 % of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
from runtime_kit import onnx_models
from runtime_kit.process import Server

SERVER_CORE, LOAD_CORE = 0, 1
CONNECTIONS = 8
FACTORS = (0.5, 1.0, 2.0, 4.0)
DEADLINE_SECONDS = 1.0
RUN_SECONDS = 0.004
QUEUE = 32
WANTED = 0.9

Json = dict[str, Any]


def rounds_of_the_model(server: Server) -> int:
    """How many rounds of its loop the model needs for RUN_SECONDS."""
    asked = 200
    server.post("/predict", {"rounds": [asked]})
    began = time.perf_counter()
    server.post("/predict", {"rounds": [asked]})
    return max(1, round(asked * RUN_SECONDS / (time.perf_counter() - began)))


async def ask(session: aiohttp.ClientSession, url: str, body: Json, answers: list[Json]) -> None:
    began = time.perf_counter()
    async with session.post(url, json=body) as response:
        await response.read()
        status = response.status
        told = "retry-after" in response.headers
    answers.append({"status": status, "seconds": time.perf_counter() - began, "retry": told})


async def closed_loop(url: str, body: Json, seconds: float) -> float:
    """The answers a second that so many connections get."""
    answers = list[Json]()
    async with aiohttp.ClientSession() as session:
        end = time.perf_counter() + seconds

        async def one() -> None:
            while time.perf_counter() < end:
                await ask(session, url, body, answers)

        await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    assert all(answer["status"] == 200 for answer in answers)
    return len(answers) / seconds


async def open_loop(url: str, body: Json, rate: float, seconds: float) -> Json:
    """Begin so many requests a second, and tell what became of them."""
    answers = list[Json]()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        began = time.perf_counter()
        asked = list[asyncio.Task[None]]()
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
            asked.append(asyncio.create_task(ask(session, url, body, answers)))
        begun_in = time.perf_counter() - began
        await asyncio.gather(*asked)
    good = [answer["seconds"] for answer in answers if answer["status"] == 200]
    refused = [answer for answer in answers if answer["status"] == 429]
    assert len(good) + len(refused) == len(answers), Counter(a["status"] for a in answers)
    assert all(answer["retry"] for answer in refused)
    in_time = [seconds for seconds in good if seconds <= DEADLINE_SECONDS]
    return {
        "offered": len(answers) / begun_in,
        "goodput": len(in_time) / begun_in,
        "refused": len(refused) / begun_in,
        "p99": statistics.quantiles(good, n=100)[98],
    }


def measure(rounds: int, seconds: float) -> Json:
    os.sched_setaffinity(0, {LOAD_CORE})
    extra = {"SLIPWAY_MAX_QUEUE": str(QUEUE), "SLIPWAY_INTRA_OP_THREADS": "1"}
    with (
        tempfile.TemporaryDirectory() as folder,
        Server(Path(folder), onnx_models.busy(), extra=extra) as server,
    ):
        server.start()
        os.sched_setaffinity(server.process.pid, {SERVER_CORE})
        server.wait_until_ready()
        url = f"http://127.0.0.1:{server.port}/predict"
        body: Json = {"rounds": [rounds_of_the_model(server)]}
        peaks = list[float]()
        runs: dict[str, list[Json]] = {str(factor): [] for factor in FACTORS}
        for number in range(rounds):
            peak = asyncio.run(closed_loop(url, body, seconds))
            peaks.append(peak)
            for factor in FACTORS:
                run = asyncio.run(open_loop(url, body, peak * factor, seconds))
                runs[str(factor)].append(run | {"of_peak": run["goodput"] / peak})
            print(f"round {number + 1} of {rounds}; load {os.getloadavg()}", flush=True)
    return {
        "taken": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "load_average_at_the_end": os.getloadavg(),
        "rounds": rounds,
        "seconds": seconds,
        "peak": statistics.median(peaks),
        "runs": runs,
    }


def middle(runs: list[Json], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def table(result: Json) -> str:
    told = (
        f"Taken {result['taken']} on {result['machine']}. Load average at the end"
        f" {result['load_average_at_the_end'][0]:.1f}: above 2, other work ran beside it. A model"
        f" of about {RUN_SECONDS * 1e3:g} ms, a queue of {QUEUE}; {result['rounds']} rounds of"
        f" {result['seconds']:g} s, medians. Peak: {result['peak']:.0f} answers/s."
    )
    lines = [
        *("# Goodput under overload", "", told, ""),
        "| offered, of the peak | offered/s | good/s | of the peak | 429/s | p99 of the good |",
        "|---|---|---|---|---|---|",
    ]
    for factor, runs in result["runs"].items():
        lines.append(
            f"| {factor} | {middle(runs, 'offered'):.0f} | {middle(runs, 'goodput'):.0f}"
            f" | {middle(runs, 'of_peak'):.0%} | {middle(runs, 'refused'):.0f}"
            f" | {middle(runs, 'p99') * 1e3:.0f} ms |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    result = measure(arguments.rounds, arguments.seconds)
    (arguments.results / "goodput.json").write_text(json.dumps(result, indent=1) + "\n")
    (arguments.results / "goodput.md").write_text(table(result))
    print(table(result))
    sys.exit(middle(result["runs"]["2.0"], "of_peak") < WANTED)


if __name__ == "__main__":
    main()

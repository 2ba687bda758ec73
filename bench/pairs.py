"""Two ways of serving the same model, measured in turns: their ratios, and how sure they are."""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from environment import environment, publish
from server_process import SERVER_CORE

Json = dict[str, Any]
Compare = Callable[[str, Path, int, int], Json]
"""From a model's name, a folder that is yet to be made, turns and seconds of each to `ratios`."""


def interval(found: Sequence[float]) -> tuple[float, float]:
    """The 95 % confidence interval of the mean, by bootstrap."""
    random = np.random.default_rng(0)
    drawn = random.choice(found, (10_000, len(found))).mean(axis=1)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


def pin(pid: int) -> None:
    """Keep all threads of a process on the core of servers."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {int(SERVER_CORE)})


def ratios(pairs: list[Json], one: str, other: str) -> Json:
    """Rate of one way to that of the other, and work done by a second of the processor."""
    rates = [pair[one]["rate"] / pair[other]["rate"] for pair in pairs]
    work = [pair[other]["cpu"] / pair[one]["cpu"] for pair in pairs]
    return {
        "pairs": pairs,
        "rate": statistics.mean(rates),
        "rate_interval": interval(rates),
        "cpu": statistics.mean(work),
        "cpu_interval": interval(work),
    }


def conditions(result: Json, connections: int) -> str:
    """When and how it was measured, in words."""
    return (
        f"Taken {result['taken']}, load average at the end"
        f" {result['load_average_at_the_end'][0]:.1f}: above 2, other work ran beside it."
        f" {result['rounds']} turns each of {result['seconds']} s, {connections} connections, one"
        " row a request; means, and their 95 % confidence intervals."
    )


def run(
    name: str,
    about: str,
    models: Sequence[str],
    compare: Compare,
    table: Callable[[Json], str],
    *,
    rounds: int,
    seconds: int,
) -> None:
    """Read the arguments, compare model by model, and publish results of that name."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--seconds", type=int, default=seconds)
    parser.add_argument("--models", nargs="+", choices=models, default=models)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compared = {
            model: compare(model, Path(folder) / model, arguments.rounds, arguments.seconds)
            for model in arguments.models
        }
    result = {
        "environment": environment(),
        "taken": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "load_average_at_the_end": os.getloadavg(),
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        "models": compared,
    }
    publish(arguments.results, name, result, table(result))

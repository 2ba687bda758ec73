"""Feeds the decoders of a model server ever new nonsense, for as long as one has time.

    make fuzz MINUTES=5

Takes turns until the time is up: bodies of every REST protocol and messages of gRPC against six
models, bytes and frames on real connections, package manifests, damaged graphs (the tests of every
day, with more and other examples), and Schemathesis against the OpenAPI document of served models.
Whatever is sent must be answered, and not with a defect of ours. Writes how many cases there were
and what was found as ``fuzz.json`` and ``fuzz.md``; ends with 1 and the example where something
was found.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from environment import environment, publish
from runtime_kit import onnx_models
from runtime_kit.fuzzing import EXAMPLES, Tried, openapi
from runtime_kit.process import Server

ROOT = Path(__file__).resolve().parents[1]
TESTS = "tests/unit/runtime/"
# What is fuzzed -> the test, and how many examples a turn tries.
TARGETS = {
    "REST bodies": ("test_fuzz.py::test_no_body_is_answered_with_a_defect", 500),
    "gRPC messages": ("test_fuzz.py::test_no_message_is_answered_with_a_defect", 500),
    "frames on a connection of gRPC": (
        "test_grpc_fuzz.py::test_no_frames_bring_the_port_of_grpc_down",
        500,
    ),
    "bytes on a connection": ("test_connections.py::test_no_bytes_bring_the_server_down", 500),
    "manifests": (
        "test_package.py::test_a_manifest_is_read_or_refused_and_never_a_defect",
        2000,
    ),
    "graphs": (
        "test_package.py::test_a_damaged_graph_is_read_or_refused_and_never_a_defect",
        2000,
    ),
}
SERVED = {
    "linear": onnx_models.linear,
    "two inputs": onnx_models.two_inputs,
    "every datatype": onnx_models.every_datatype,
}
OPENAPI_SECONDS = 20
COUNTED = re.compile(r"(\d+) passing, (\d+) failing, and (\d+) invalid")


def tested(node: str, examples: int) -> Tried:
    """One turn of a property test, with a seed of its own."""
    seed = random.SystemRandom().randrange(2**32)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"{TESTS}{node}",
         "--hypothesis-show-statistics", f"--hypothesis-seed={seed}", "--timeout=900"],
        cwd=ROOT,
        env={**os.environ, EXAMPLES: str(examples)},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    cases = sum(int(good) + int(bad) for good, bad, _ in COUNTED.findall(done.stdout))
    if done.returncode or not cases:
        return Tried(cases, f"seed {seed}\n{done.stdout[-6000:] or done.stderr[-2000:]}")
    return Tried(cases, "")


def served(kind: str) -> Tried:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Server(folder / "s", SERVED[kind]()) as server:
            server.start().wait_until_ready()
            url = f"http://127.0.0.1:{server.port}"
            tried = openapi(url, folder, count=50, seconds=OPENAPI_SECONDS)
            alive = server.get("/v2/health/ready").status == 200
    return tried if alive else Tried(tried.cases, f"{tried.problem}\nnot ready any more")


def table(results: dict[str, Any]) -> str:
    where, cases, findings = results["environment"], results["cases"], results["findings"]
    lines = [
        "# Nonsense for the decoders",
        "",
        f"{where['date']}, commit {where['commit']}: {results['minutes']:g} minutes on",
        f"{where['cores']} shared cores, other examples each time. `bench/fuzz.py` says how.",
        "",
        "| decoder | cases | findings |",
        "|---|---:|---:|",
        *(f"| {name} | {count:,} | {findings.count(name)} |" for name, count in cases.items()),
        f"| all | {sum(cases.values()):,} | {len(findings)} |",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--results", type=Path, default=ROOT / "bench/results")
    options = parser.parse_args()
    results: dict[str, Any] = {"environment": environment(), "minutes": options.minutes}
    end = time.monotonic() + 60 * options.minutes
    cases: dict[str, int] = {}
    problems: list[tuple[str, str]] = []
    kinds = itertools.cycle(SERVED)
    for name in itertools.cycle((*TARGETS, "OpenAPI")):
        if time.monotonic() >= end:
            break
        tried = served(next(kinds)) if name == "OpenAPI" else tested(*TARGETS[name])
        cases[name] = cases.get(name, 0) + tried.cases
        print(f"{name:32} {tried.cases:7} cases{'  FOUND SOMETHING' * bool(tried.problem)}")
        if tried.problem:
            problems.append((name, tried.problem))
    # What was found is shown whole below; the table counts it.
    results |= {"cases": cases, "findings": [name for name, _ in problems]}
    publish(options.results, "fuzz", results, table(results))
    for name, problem in problems:
        print(f"{name}: {problem}", end="\n\n", file=sys.stderr)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())

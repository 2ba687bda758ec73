"""How much is tried: little and always the same every day, much and ever new by `make fuzz`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

EXAMPLES = "FUZZ_EXAMPLES"

_SCHEMATHESIS = Path(sys.executable).parent / "st"
_COUNT = re.compile(r"(\d+) generated")
# What a schema cannot say: that two members exclude each other, and that the sizes of nested lists
# belong together. So a body that fits the schema may well be refused.
_LEFT_OUT = "positive_data_acceptance"


def examples(count: int) -> settings:
    """Settings that try ``count`` examples, or as many as FUZZ_EXAMPLES says."""
    return settings(
        max_examples=int(os.environ.get(EXAMPLES, count)),
        deadline=None,
        derandomize=EXAMPLES not in os.environ,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


# Where in some bytes others are put, as a share of their length, and which.
mutations = st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4)), max_size=3)


def mutated(data: bytes, changes: Sequence[tuple[float, bytes]]) -> bytes:
    """Return bytes with what the changes put over them."""
    for where, what in changes:
        position = int(where * len(data))
        data = data[:position] + what + data[position + len(what) :]
    return data


@dataclass(frozen=True)
class Tried:
    """How many requests were sent, and what was found wrong, empty where all was well."""

    cases: int
    problem: str


def openapi(url: str, folder: Path, *, count: int = 10, seconds: int | None = None) -> Tried:
    """Hold a server to its own OpenAPI document, with Schemathesis.

    Args:
        url: where it answers.
        folder: an empty one, for what Schemathesis writes.
        count: examples for each operation.
        seconds: if given, it goes on that long, with other examples each time.
    """
    phases = ("--phases", "examples,coverage,fuzzing")
    more = ("--seed", "1") if seconds is None else ("--max-time", str(seconds))
    done = subprocess.run(
        [_SCHEMATHESIS, "run", f"{url}/openapi.json", *phases, "--max-examples", str(count), *more,
         "--exclude-checks", _LEFT_OUT, "--continue-on-failure", "--request-timeout", "10",
         "--warnings", "off", "--no-color"],
        cwd=folder,
        env={**os.environ, "NO_PROXY": "*", "no_proxy": "*"},
        capture_output=True,
        text=True,
        timeout=120 + (seconds or 0),
        check=False,
    )  # fmt: skip
    found = _COUNT.search(done.stdout)
    told = done.stdout + done.stderr
    return Tried(int(found[1]) if found else 0, told if done.returncode else "")

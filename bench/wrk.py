"""Runs of wrk: so many connections, of which each asks again once it is answered."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

from request import Request
from server_process import LOAD_CORE

# wrk counts an answer that takes longer as missing.
_TIMEOUT_SECONDS = 20
_WRONG = re.compile(r"(?:Non-2xx|Socket errors).*")
_MICROSECONDS = {"us": 1, "ms": 1e3, "s": 1e6}


class VoidError(RuntimeError):
    """A run that does not count: an answer was not 2xx, or was missing."""


def run(
    port: int, request: Request, script: Path, connections: int, seconds: int
) -> dict[str, Any]:
    """One run of load from a core of its own: requests, requests/s, p50 and p99 in microseconds.

    Raises:
        VoidError: an answer was not 2xx, or was missing.
    """
    octets = "".join(f"\\{octet:03d}" for octet in request.body)
    headers = "".join(f'wrk.headers["{k}"] = "{v}"\n' for k, v in request.headers.items())
    script.write_text(f'wrk.method = "POST"\nwrk.body = "{octets}"\n{headers}')
    done = subprocess.run(
        [
            *("taskset", "--cpu-list", LOAD_CORE, "wrk", "--latency", "--threads", "1"),
            *("--connections", str(connections), "--duration", f"{seconds}s"),
            *("--timeout", f"{_TIMEOUT_SECONDS}s"),
            *("--script", str(script), f"http://127.0.0.1:{port}{request.path}"),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + _TIMEOUT_SECONDS + 30,
    ).stdout
    found = re.search(r"(\d+) requests in", done)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done)
    percentiles = dict(re.findall(r"(50|99)%\s+([\d.]+\w+)", done))
    if wrong := _WRONG.findall(done):
        raise VoidError("; ".join(wrong))
    if not found or not rate or not int(found[1]):
        raise VoidError("nothing was answered")
    return {
        "requests": int(found[1]),
        "rate": float(rate[1]),
        "p50": _microseconds(percentiles["50"]),
        "p99": _microseconds(percentiles["99"]),
    }


def _microseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]
    return float(number) * _MICROSECONDS[unit]

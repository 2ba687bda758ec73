"""h2spec, the conformance test of HTTP/2 by others, against the port of gRPC."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from runtime_kit import onnx_models
from runtime_kit.process import Server

from slipway_dev import binaries

PATH = "/inference.GRPCInferenceService/ServerLive"
# All that it has, and skips none: a case that it no longer asks is seen here as well.
CASES = 147
COUNTED = re.compile(r"(\d+) passed, (\d+) skipped, (\d+) failed")
SECTIONS = ("generic", "http2", "hpack")
# The one case that may fail (5.1.2): it opens one stream too many, each a complete request, and
# takes for granted that none of them is answered meanwhile. That the limit holds is seen by
# `test_grpc_transport`.
ANSWERED_TOO_SOON = (
    "Sends HEADERS frames that causes their advertised concurrent stream limit to be exceeded"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    extra = {"SLIPWAY_GRPC_PORT": "0"}
    with Server(tmp_path_factory.mktemp("h2spec"), onnx_models.linear(), extra=extra) as server:
        yield server.start().wait_until_ready()


@pytest.fixture(scope="session")
def h2spec() -> Path:
    return binaries.path("h2spec")


@pytest.mark.timeout(600, func_only=True)
def test_h2spec_finds_nothing_against_the_port_of_grpc(server: Server, h2spec: Path) -> None:
    host, _, port = server.grpc_address.rpartition(":")
    done = subprocess.run(
        [h2spec, "--host", host, "--port", port, "--path", PATH, "--strict",
         "--timeout", "2", *SECTIONS],
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )  # fmt: skip
    _, _, failures = done.stdout.partition("Failures:")
    counted = COUNTED.search(done.stdout)
    assert counted, done.stdout + done.stderr
    passed, skipped, failed = map(int, counted.groups())
    found = [line for line in failures.splitlines() if "\u00d7" in line]
    assert len(found) == failed
    assert all(ANSWERED_TOO_SOON in line for line in found), failures
    assert failed <= 1, failures
    assert (passed + failed, skipped) == (CASES, 0), counted[0]

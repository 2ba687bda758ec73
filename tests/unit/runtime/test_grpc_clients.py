"""Clients that others wrote, in Go: grpcurl, and grpc-go by our tritongo."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from runtime_kit import onnx_models
from runtime_kit.process import Server

from slipway_dev import binaries

Grpcurl = Callable[..., str]
Tritongo = Callable[..., dict[str, Any]]

SERVICE = "inference.GRPCInferenceService"
MEBIBYTE = 1024 * 1024
ON = {"SLIPWAY_GRPC_PORT": "0", "SLIPWAY_MAX_BODY_BYTES": str(16 * MEBIBYTE)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    model = onnx_models.identity(shape=("n",))
    with Server(tmp_path_factory.mktemp("clients"), model, extra=ON) as server:
        yield server.start().wait_until_ready()


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("busy"), onnx_models.busy(), extra=ON) as server:
        yield server.start().wait_until_ready()


@pytest.fixture(scope="session")
def grpcurl() -> Grpcurl:
    """Ask with grpcurl, which knows the service by reflection only; it has to be content."""
    program = binaries.path("grpcurl")

    def ask(server: Server, *arguments: str, given: object = None) -> str:
        data = () if given is None else ("-d", json.dumps(given))
        done = subprocess.run(
            [program, "-plaintext", "-max-time", "30", *data, server.grpc_address, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return ask


@pytest.fixture(scope="session")
def tritongo() -> Tritongo:
    """Run a mode of tritongo to its end; return what it counted."""
    program = binaries.path("tritongo")

    def run(server: Server, mode: str, **flags: int) -> dict[str, Any]:
        more = [part for name, value in flags.items() for part in (f"-{name}", str(value))]
        done = subprocess.run(
            [program, "-address", server.grpc_address, *more, mode],
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_grpcurl_lists_and_describes_the_services(server: Server, grpcurl: Grpcurl) -> None:
    assert {SERVICE, "grpc.health.v1.Health"} <= set(grpcurl(server, "list").split())
    assert f"{SERVICE}.ModelInfer" in grpcurl(server, "list", SERVICE).split()
    described = grpcurl(server, "describe", SERVICE)
    assert "rpc ModelInfer ( .inference.ModelInferRequest )" in described
    assert "rpc ModelInfer (" in grpcurl(server, "describe", f"{SERVICE}.ModelInfer")
    assert "repeated bytes raw_input_contents = 7;" in grpcurl(
        server, "describe", "inference.ModelInferRequest"
    )


def test_grpcurl_infers_from_a_json_document(server: Server, grpcurl: Grpcurl) -> None:
    asked = {
        "model_name": "m",
        "id": "7",
        "inputs": [
            {
                "name": "x",
                "datatype": "FP32",
                "shape": [3],
                "contents": {"fp32_contents": [1, 2, 3]},
            }
        ],
    }
    answer = json.loads(grpcurl(server, f"{SERVICE}/ModelInfer", given=asked))
    assert answer["id"] == "7"
    (raw,) = answer["rawOutputContents"]
    assert np.frombuffer(base64.b64decode(raw), np.float32).tolist() == [1, 2, 3]


def test_grpcurl_streams_inferences(server: Server, grpcurl: Grpcurl) -> None:
    contents = base64.b64encode(np.float32([1, 2]).tobytes()).decode()
    tensor = {"name": "x", "datatype": "FP32", "shape": [2]}
    asked = {"model_name": "m", "inputs": [tensor], "raw_input_contents": [contents]}
    answer = json.loads(grpcurl(server, f"{SERVICE}/ModelStreamInfer", given=asked))
    assert answer["inferResponse"]["rawOutputContents"] == [contents]


def test_grpcurl_checks_health(server: Server, grpcurl: Grpcurl) -> None:
    method = "grpc.health.v1.Health/Check"
    assert json.loads(grpcurl(server, method, given={"service": "m"})) == {"status": "SERVING"}


def test_grpc_go_gets_the_answers_of_many_callers_apart(server: Server, tritongo: Tritongo) -> None:
    assert tritongo(server, "unary", goroutines=32, calls=50) == {"calls": 1600}


def test_grpc_go_moves_large_tensors_both_ways(server: Server, tritongo: Tritongo) -> None:
    assert tritongo(server, "large", bytes=8 * MEBIBYTE) == {"bytes": 64 * MEBIBYTE}


def test_grpc_go_is_held_back_in_a_stream_whose_answers_it_does_not_read(
    server: Server, tritongo: Tritongo
) -> None:
    told = tritongo(server, "stream", goroutines=16, calls=50)
    assert told["messages"] == 800
    assert told["ahead"] < 800


def test_grpc_go_sends_compressed_messages(server: Server, tritongo: Tritongo) -> None:
    assert tritongo(server, "gzip", bytes=8 * MEBIBYTE) == {"calls": 3}


def test_grpc_go_is_told_why_it_is_refused(server: Server, tritongo: Tritongo) -> None:
    assert tritongo(server, "errors", bytes=8 * MEBIBYTE) == {"refused": 6}


def test_grpc_go_checks_and_watches_health(server: Server, tritongo: Tritongo) -> None:
    assert tritongo(server, "health") == {"checks": 4, "watches": 2}


def test_grpc_go_sees_its_deadlines_kept(busy: Server, tritongo: Tritongo) -> None:
    assert tritongo(busy, "deadline", goroutines=16) == {"late": 16}


def test_grpc_go_cancels_many_calls_and_keeps_its_connection(
    busy: Server, tritongo: Tritongo
) -> None:
    assert tritongo(busy, "cancel", calls=50) == {"cancelled": 250, "answered": 5}

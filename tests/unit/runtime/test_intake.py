"""Large bodies together take only so much memory; who comes on top of that is sent away for now."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from runtime_kit import onnx_models
from runtime_kit.process import Server
from tritonclient.grpc import service_pb2, service_pb2_grpc

from slipway_runtime.settings import ServeSettings

MEBIBYTE = 1024 * 1024
NUMBERS = 200_000
EXTRA = {
    "SLIPWAY_MAX_BODY_BYTES": str(MEBIBYTE),
    "SLIPWAY_MAX_BODIES_BYTES": str(2 * MEBIBYTE),
    "SLIPWAY_GRPC_PORT": "0",
}
SMALL = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}


@pytest.fixture(params=["1", "2"], ids=["one worker", "two workers"], scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, request: Any) -> Iterator[Server]:
    extra = {**EXTRA, "SLIPWAY_WORKERS": request.param}
    if request.param == "2":
        extra["SLIPWAY_MAX_BODIES_BYTES"] = str(4 * MEBIBYTE)
    with Server(
        tmp_path_factory.mktemp("intake"), onnx_models.identity(shape=("n",)), extra=extra
    ) as server:
        yield server.start().wait_until_ready()


@pytest.fixture
def quiet(server: Server) -> Server:
    """The server, which holds nothing of earlier tests."""
    wait_until_held(server, 0, 0)
    return server


def held(server: Server) -> int:
    found = re.search(rb"^slipway_body_bytes (\d+)$", server.get("/metrics").body, re.MULTILINE)
    assert found
    return int(found[1])


def wait_until_held(server: Server, least: int, most: int) -> None:
    deadline = time.monotonic() + 20
    while not least <= held(server) <= most:
        assert time.monotonic() < deadline, held(server)
        time.sleep(0.02)


def large() -> bytes:
    """A request of 0.8 MB."""
    data = np.zeros(NUMBERS, np.float32).tobytes()
    tensor = {"name": "x", "shape": [NUMBERS], "datatype": "FP32"}
    head = {"inputs": [tensor | {"parameters": {"binary_data_size": len(data)}}]}
    return json.dumps(head).encode() + data


def headers(body: bytes) -> dict[str, str]:
    return {"inference-header-content-length": str(len(body) - 4 * NUMBERS)}


def begin(server: Server, body: bytes) -> socket.socket:
    """Send all of a request but its last byte."""
    told = {"host": "m", "content-length": str(len(body)), **headers(body)}
    lines = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    connection = socket.create_connection((server.host, server.port), timeout=20)
    connection.sendall(f"POST /v2/models/m/infer HTTP/1.1\r\n{lines}\r\n".encode() + body[:-1])
    return connection


def fill(server: Server, stack: contextlib.ExitStack) -> list[socket.socket]:
    """Begin requests until no other large one has room."""
    body = large()
    begun = list[socket.socket]()
    for count in itertools.count(1):
        before = held(server)
        connection = stack.enter_context(begin(server, body))
        deadline = time.monotonic() + 20
        connection.setblocking(False)
        while held(server) < before + len(body) - 1:
            assert time.monotonic() < deadline, held(server)
            with contextlib.suppress(BlockingIOError):
                assert b" 429 " in connection.recv(1024)
                return begun
            time.sleep(0.02)
        connection.setblocking(True)
        begun.append(connection)
        assert count < 10, "nothing is ever refused"
    raise AssertionError


def test_large_bodies_that_have_no_room_are_429_and_may_come_again(quiet: Server) -> None:
    body = large()
    with contextlib.ExitStack() as stack:
        begun = fill(quiet, stack)
        assert 2 <= len(begun) <= 4
        for connection in begun:
            connection.sendall(body[-1:])
            assert b" 200 OK" in connection.recv(1024)
    wait_until_held(quiet, 0, 0)
    assert quiet.post("/v2/models/m/infer", body, headers(body)).status == 200


def test_small_requests_are_served_beside_large_bodies(quiet: Server) -> None:
    with contextlib.ExitStack() as stack:
        fill(quiet, stack)
        for _ in range(4):
            assert quiet.post("/v2/models/m/infer", SMALL).status == 200


def test_a_compressed_message_counts_as_what_it_holds(tmp_path: Path) -> None:
    asked = service_pb2.ModelInferRequest(model_name="m")
    asked.inputs.add(name="x", datatype="FP32", shape=[NUMBERS])
    asked.raw_input_contents.append(bytes(4 * NUMBERS))
    with (
        Server(tmp_path, onnx_models.identity(shape=("n",)), extra=EXTRA) as server,
        contextlib.ExitStack() as stack,
    ):
        server.start().wait_until_ready()
        small = {"compression": grpc.Compression.Gzip}
        channel = stack.enter_context(grpc.insecure_channel(server.grpc_address, **small))
        infer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        assert infer(asked, timeout=20).outputs[0].shape == [NUMBERS]
        fill(server, stack)
        with pytest.raises(grpc.RpcError) as refused:
            infer(asked, timeout=20)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "try again later" in refused.value.details()


def test_the_refusal_says_when_to_come_again(tmp_path: Path) -> None:
    with Server(tmp_path, onnx_models.identity(shape=("n",)), extra=EXTRA) as server:
        server.start().wait_until_ready()
        body = large()
        with contextlib.ExitStack() as stack:
            for count in (1, 2):
                stack.enter_context(begin(server, body))
                wait_until_held(server, count * (len(body) - 1), count * len(body))
            reply = server.post("/v2/models/m/infer", body, headers(body))
            assert reply.status == 429
            assert reply.headers["retry-after"] == "1"
            assert f"all together may take {2 * MEBIBYTE}" in reply.json["error"]
            packed = gzip.compress(body)
            assert len(packed) < 64 * 1024
            reply = server.post(
                "/v2/models/m/infer", packed, {**headers(body), "content-encoding": "gzip"}
            )
            assert reply.status == 429
            with pytest.raises(grpc.RpcError) as error:
                call(server)
            assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        wait_until_held(server, 0, 0)
        assert call(server) == bytes(4 * NUMBERS)
        wait_until_held(server, 0, 0)


def call(server: Server) -> bytes:
    request = service_pb2.ModelInferRequest(model_name="m", raw_input_contents=[bytes(4 * NUMBERS)])
    request.inputs.add(name="x", datatype="FP32", shape=[NUMBERS])
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        (output,) = stub.ModelInfer(request, timeout=20).raw_output_contents
    return output


def test_who_leaves_in_the_middle_makes_room(quiet: Server) -> None:
    with contextlib.ExitStack() as stack:
        fill(quiet, stack)
    wait_until_held(quiet, 0, 0)


@pytest.mark.parametrize(
    ("one", "together", "bytes_together"),
    [
        ("1000", "", 4000),
        ("1000", "5000", 5000),
        ("1000", "500", 1000),
    ],
    ids=["four bodies by default", "as given", "one body at least"],
)
def test_what_bodies_together_may_take(one: str, together: str, bytes_together: int) -> None:
    environment = {"SLIPWAY_MAX_BODY_BYTES": one, "SLIPWAY_MAX_BODIES_BYTES": together}
    assert ServeSettings.from_environment(environment).intake_bytes == bytes_together

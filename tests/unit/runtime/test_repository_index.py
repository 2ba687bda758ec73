"""What the repository's index tells of the model, over HTTP and gRPC alike."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from runtime_kit import onnx_models
from runtime_kit.process import Server
from tritonclient.grpc import service_pb2, service_pb2_grpc

ON = {"SLIPWAY_GRPC_PORT": "0", "SLIPWAY_DRAIN_DELAY_SECONDS": "60"}
PATH = "/v2/repository/index"

Ask = Callable[[Server, dict[str, Any]], list[dict[str, str]]]


def over_http(server: Server, request: dict[str, Any]) -> list[dict[str, str]]:
    reply = server.post(PATH, request)
    assert reply.status == 200, reply.body
    return reply.json


def over_grpc(server: Server, request: dict[str, Any]) -> list[dict[str, str]]:
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        models = stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(**request)).models
    names = ("name", "version", "state", "reason")
    return [{name: getattr(model, name) for name in names} for model in models]


@pytest.fixture(scope="module")
def ready_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("ready"), onnx_models.linear(), extra=ON) as server:
        yield server.start().wait_until_ready()


@pytest.fixture(scope="module")
def draining_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("draining"), onnx_models.linear(), extra=ON) as server:
        server.start().wait_until_ready().terminate()
        deadline = time.monotonic() + 10
        while server.get("/v2/health/ready").status == 200:
            assert time.monotonic() < deadline, server.log
            time.sleep(0.02)
        yield server


@pytest.mark.parametrize("ask", [over_http, over_grpc])
@pytest.mark.parametrize("request_", [{}, {"ready": False}, {"ready": True}])
def test_a_ready_model_is_listed_whatever_is_asked_for(
    ready_server: Server, ask: Ask, request_: dict[str, Any]
) -> None:
    version = ready_server.digest[7:19]
    entry = {"name": "m", "version": version, "state": "READY", "reason": ""}
    assert ask(ready_server, request_) == [entry]


@pytest.mark.parametrize("ask", [over_http, over_grpc])
def test_while_draining_it_is_unavailable_and_says_why(draining_server: Server, ask: Ask) -> None:
    version = draining_server.digest[7:19]
    entry = {"name": "m", "version": version, "state": "UNAVAILABLE", "reason": "draining"}
    assert ask(draining_server, {}) == ask(draining_server, {"ready": False}) == [entry]


@pytest.mark.parametrize("ask", [over_http, over_grpc])
def test_who_asks_for_ready_models_alone_gets_none_that_drains(
    draining_server: Server, ask: Ask
) -> None:
    assert ask(draining_server, {"ready": True}) == []


def test_while_loading_there_is_no_index_yet(tmp_path: Path) -> None:
    with Server(tmp_path, onnx_models.linear(), extra=ON) as server:
        # Hashing a sparse gigabyte takes a while.
        stored = tmp_path / "cache" / "sha256" / server.digest[7:] / "model.onnx"
        with stored.open("r+b") as file:
            file.truncate(1_000_000_000)
        server.start().wait_for_port().wait_for_log("gRPC listening")
        reply = server.post(PATH, {})
        assert (reply.status, "verifying" in reply.json["error"]) == (503, True)
        with pytest.raises(grpc.RpcError) as refused:
            over_grpc(server, {})
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_the_body_may_be_empty(ready_server: Server) -> None:
    assert len(ready_server.post(PATH, b"").json) == 1


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"{", "not JSON"),
        (b"[]", "must be an object"),
        (b'{"ready": "yes"}', "ready must be true or false"),
    ],
)
def test_a_body_of_another_form_is_refused(ready_server: Server, body: bytes, told: str) -> None:
    reply = ready_server.post(PATH, body)
    assert (reply.status, told in reply.json["error"]) == (400, True), json.dumps(reply.json)

"""Settings of the session: what they change, and how they are refused."""

from __future__ import annotations

import ctypes.util
import json
import threading
from pathlib import Path

import onnxruntime_extensions
import pytest
from runtime_kit import onnx_models
from runtime_kit.process import Server, send


def test_the_limit_of_the_arena_stops_a_request_and_not_the_server(tmp_path: Path) -> None:
    extra = {
        "SLIPWAY_CPU_ARENA_LIMIT_BYTES": str(16 << 20),
        "SLIPWAY_GRAPH_OPTIMIZATION": "basic",
        "SLIPWAY_SESSION_OPTIONS": '{"session.intra_op.allow_spinning": "0"}',
    }
    with Server(tmp_path, onnx_models.ones(), extra=extra) as server:
        server.start().wait_until_ready()
        reply = server.post("/predict", {"shape": [10_000_000]})
        assert (reply.status, "memory" in reply.json["error"]) == (500, True), reply.body
        line = json.loads(server.wait_for_log("a request failed")[-1])
        assert line["message"] == f"a request failed: {reply.json['error']}"
        assert server.post("/predict", {"shape": [3]}).json == {"y": [1, 1, 1]}


def test_a_profile_is_taken_on_demand_while_requests_are_answered(tmp_path: Path) -> None:
    extra = {"SLIPWAY_PROFILING": "true"}
    with Server(tmp_path, onnx_models.linear(), extra=extra) as server:
        server.start().wait_until_ready()
        done = threading.Event()

        def ask() -> None:
            while not done.is_set():
                assert server.post("/predict", [1, 2, 3, 4]).json == {"y": [41, 51]}

        client = threading.Thread(target=ask)
        client.start()
        try:
            reply = server.post("/debug/profile?seconds=1", b"")
        finally:
            done.set()
            client.join()
        assert reply.status == 200, reply.body
        assert any("Gemm" in event["name"] for event in reply.json if event["cat"] == "Node")
        assert server.post("/debug/profile?seconds=1e9", b"").status == 400
        # As a proxy may ask: the whole address.
        whole = f"http://m:{server.port}/debug/profile?seconds=1e9"
        connection = server.connect(timeout=10)
        assert send(connection, "POST", whole, b"").status == 400
        connection.close()
        assert server.post("/predict", [1, 2, 3, 4]).json == {"y": [41, 51]}


def test_nobody_profiles_who_was_not_allowed_to(linear_server: Server) -> None:
    reply = linear_server.post("/debug/profile", b"")
    assert (reply.status, "SLIPWAY_PROFILING" in reply.json["error"]) == (501, True)


@pytest.mark.parametrize("library", ["/nowhere/ops.so", ctypes.util.find_library("m")])
def test_a_library_of_operators_that_is_none_ends_the_process(tmp_path: Path, library: str) -> None:
    extra = {"SLIPWAY_CUSTOM_OP_LIBRARIES": library}
    with Server(tmp_path, onnx_models.linear(), extra=extra) as server:
        ended = server.start().wait_for_end()
    assert (ended.code, ended.termination["reason"]) == (2, "InvalidArguments")
    assert library in ended.termination["message"]


def test_operators_of_a_library_run_where_the_library_is_named(tmp_path: Path) -> None:
    extra = {"SLIPWAY_CUSTOM_OP_LIBRARIES": onnxruntime_extensions.get_library_path()}
    with Server(tmp_path, onnx_models.custom_operator(), extra=extra) as server:
        server.start().wait_until_ready()
        reply = server.post("/predict", {"text": ["a", "Slipway"]})
        assert reply.json == {"y": ["A", "SLIPWAY"]}, reply.body


def test_no_library_is_loaded_that_was_not_named(tmp_path: Path) -> None:
    """It lies in this environment, and nothing in a model can ask for it."""
    with Server(tmp_path, onnx_models.custom_operator()) as server:
        ended = server.start().wait_for_end()
    assert (ended.code, ended.termination["reason"]) == (21, "InvalidModel")
    assert "StringUpper" in ended.termination["message"]
    assert "SLIPWAY_CUSTOM_OP_LIBRARIES" in ended.termination["message"]

"""The port of gRPC and clients that stop halfway: only what has stalled ends, the rest goes on.

And what else a client that holds its answers back, or asks for much at once, must not be able to.
"""

from __future__ import annotations

import os
import re
import threading
import time
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from runtime_kit import onnx_models
from runtime_kit.h2_client import (
    CANCEL,
    DATA,
    INITIAL_WINDOW_SIZE,
    Connection,
    Stream,
    frame,
    message,
    ping,
    request_fields,
    reset,
    window_update,
)
from runtime_kit.process import Server
from tritonclient.grpc import service_pb2, service_pb2_grpc

SERVICE = "/inference.GRPCInferenceService"
INFER = f"{SERVICE}/ModelInfer"
STREAM_INFER = f"{SERVICE}/ModelStreamInfer"
STREAMING = (
    STREAM_INFER,
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
)
MEBIBYTE = 1024 * 1024
# Elements of an answer of 24 MiB.
LARGE = 6 * MEBIBYTE
BODY_SECONDS = 1.5
KEEP_ALIVE_SECONDS = 1
EXTRA = {
    "SLIPWAY_GRPC_PORT": "0",
    "SLIPWAY_BODY_TIMEOUT_SECONDS": str(BODY_SECONDS),
    "SLIPWAY_KEEP_ALIVE_SECONDS": str(KEEP_ALIVE_SECONDS),
}
# By then a time-out of the body has been noticed, on a machine that is busy.
NOTICED = BODY_SECONDS + 3

INVALID_ARGUMENT, DEADLINE_EXCEEDED, UNAUTHENTICATED = 3, 4, 16


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("stalls"), onnx_models.ones(), extra=EXTRA) as server:
        yield server.start().wait_until_ready()


@pytest.fixture
def connection(server: Server) -> Iterator[Connection]:
    with Connection(server.grpc_address) as connection:
        connection.barrier()
        yield connection


@pytest.fixture
def holding(server: Server) -> Iterator[Connection]:
    """A client that takes in no answer before it says so, stream by stream."""
    with Connection(server.grpc_address, {INITIAL_WINDOW_SIZE: 0}, replenish=False) as connection:
        connection.grant(None, 1 << 30)
        connection.barrier()
        yield connection


def request(*shape: int, name: str = "shape") -> Any:
    """A request to have as many ones back as fill the shape."""
    asked = service_pb2.ModelInferRequest(model_name="m")
    asked.inputs.add(name=name, datatype="INT64", shape=[len(shape)])
    asked.raw_input_contents.append(np.array(shape, np.int64).tobytes())
    return asked


ASKED = request(4).SerializeToString()


def assert_ones(content: bytes, count: int = 4) -> None:
    answer = service_pb2.ModelInferResponse.FromString(content)
    assert list(answer.raw_output_contents) == [np.ones(count, np.float32).tobytes()]


def assert_answered(stream: Stream, count: int = 4) -> None:
    assert (stream.grpc_status, stream.ended) == (0, True), stream
    (content,) = stream.messages
    assert_ones(content, count)


def cpu_seconds(server: Server) -> float:
    """Processor time of the server so far, user and system."""
    stat = Path(f"/proc/{server.process.pid}/stat").read_text()
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ---- what has stalled ends, and nothing else ----


def test_a_stream_goes_on_as_long_as_its_messages_do_wherever_frames_cut_them(
    connection: Connection,
) -> None:
    asked = message(ASKED)
    stream = connection.open(request_fields(STREAM_INFER))
    connection.send_data(stream, asked[:20], end=False)
    began, sent = time.monotonic(), 0
    while not stream.done and time.monotonic() - began < 2.5 * BODY_SECONDS:
        # The end of a message and the beginning of the next: one has always begun.
        connection.send_data(stream, asked[20:] + asked[:20], end=False)
        sent += 1
        connection.listen(0.1)
    connection.send_data(stream, asked[20:])
    assert connection.finish(stream).grpc_status == 0, stream
    assert len(stream.messages) == sent + 1


def test_a_call_whose_body_stalls_ends_and_one_that_began_later_does_not(
    connection: Connection,
) -> None:
    asked = message(ASKED)
    stalled = connection.open(request_fields(INFER))
    connection.send_data(stalled, asked[:20], end=False)
    connection.listen(2 / 3 * BODY_SECONDS)
    assert not stalled.done, stalled
    later = connection.open(request_fields(INFER))
    connection.send_data(later, asked[:20], end=False)
    connection.finish(stalled, NOTICED)
    assert stalled.grpc_status == DEADLINE_EXCEEDED, stalled
    assert not later.done, later
    connection.send_data(later, asked[20:])
    assert_answered(connection.finish(later))


@pytest.mark.parametrize("count", [4, LARGE], ids=["small", "large"])
def test_an_answer_that_is_not_taken_is_given_up_and_its_connection_goes_on(
    holding: Connection, count: int
) -> None:
    stuck = holding.start(INFER, request(count).SerializeToString())
    holding.wait(lambda: bool(stuck.header), "the head of its answer")
    began = time.monotonic()
    while not stuck.done and time.monotonic() - began < NOTICED:
        taken = holding.start(INFER, ASKED)
        holding.grant(taken, MEBIBYTE)
        assert_answered(holding.finish(taken))
        holding.listen(0.1)
    assert stuck.reset == CANCEL, stuck
    assert time.monotonic() - began > BODY_SECONDS - 0.2
    taken = holding.start(INFER, ASKED)
    holding.grant(taken, MEBIBYTE)
    assert_answered(holding.finish(taken))
    assert not holding.goaways


def test_an_answer_that_is_taken_slowly_is_not_given_up(holding: Connection) -> None:
    slow = holding.start(INFER, ASKED)
    began = time.monotonic()
    while time.monotonic() - began < 2 * BODY_SECONDS:
        holding.grant(slow, 1)
        holding.listen(BODY_SECONDS / 10)
        assert not slow.done, slow
    holding.grant(slow, MEBIBYTE)
    assert_answered(holding.finish(slow))


def test_streams_on_which_nothing_comes_are_ended(connection: Connection) -> None:
    streams = [connection.open(request_fields(path)) for path in STREAMING]
    began = time.monotonic()
    for stream in streams:
        assert connection.finish(stream, NOTICED).grpc_status == DEADLINE_EXCEEDED, stream
    assert time.monotonic() - began > BODY_SECONDS / 2
    assert_answered(connection.call(INFER, ASKED))


def test_a_stream_that_waits_for_its_next_message_holds_nothing_of_the_last(
    tmp_path: Path,
) -> None:
    streams, size = 16, 8 * MEBIBYTE
    extra = {"SLIPWAY_GRPC_PORT": "0", "SLIPWAY_BUSY_POLL_MICROSECONDS": "0"}
    asked = service_pb2.ModelInferRequest(model_name="m")
    asked.inputs.add(name="x", datatype="FP32", shape=[1, size // 4])
    asked.raw_input_contents.append(bytes(size))
    with (
        Server(tmp_path, onnx_models.identity(), extra=extra) as server,
        grpc.insecure_channel(
            server.start().wait_until_ready().grpc_address,
            [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
        ) as channel,
    ):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        stub.ModelInfer(asked)
        before = server.resident_bytes()
        end = threading.Event()

        def one_and_then_none() -> Iterator[Any]:
            yield asked
            end.wait(30)

        calls = list[Any]()
        try:
            for _ in range(streams):
                calls.append(stub.ModelStreamInfer(one_and_then_none()))
                assert not next(calls[-1]).error_message
            # Each would hold its inputs and its outputs.
            assert server.resident_bytes() - before < streams * size / 2
        finally:
            end.set()


def test_pings_keep_a_connection_that_is_idle_otherwise(connection: Connection) -> None:
    began = time.monotonic()
    while time.monotonic() - began < 3 * KEEP_ALIVE_SECONDS:
        connection.send(ping())
        connection.listen(0.2)
        assert not connection.closed, connection
    assert_answered(connection.call(INFER, ASKED))
    connection.wait_until_closed(KEEP_ALIVE_SECONDS + 3)


# ---- answers that are large, or wait ----


def test_large_answers_take_nothing_from_calls_beside_them(server: Server) -> None:
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.grpc_address, options=options) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

        def ask(count: int) -> int:
            (content,) = stub.ModelInfer(request(count), timeout=30).raw_output_contents
            return len(content) // 4

        counts = [1 if number % 4 else LARGE for number in range(40)]
        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(ask, counts)) == counts


def test_window_updates_cost_little_while_answers_wait(server: Server, holding: Connection) -> None:
    waiting = [holding.start(INFER, ASKED) for _ in range(100)]
    holding.barrier()
    holding.wait(lambda: all(stream.header for stream in waiting), "the heads of all answers")
    before = cpu_seconds(server)
    holding.send(window_update(0, 1) * 100_000)
    holding.barrier()
    assert cpu_seconds(server) - before < 1
    assert not any(stream.data for stream in waiting)


def test_small_messages_that_wait_take_little_more_than_their_window(
    server: Server, holding: Connection
) -> None:
    before = most = server.resident_bytes()
    # Almost a whole window of the smallest messages there are, in frames of 15,000 bytes.
    frames, streams = MEBIBYTE // 15_000, 4
    for _ in range(streams):
        stream = holding.open(request_fields(STREAM_INFER))
        holding.send(frame(DATA, 0, stream.number, message(b"") * 3000) * frames)
        holding.barrier()
        most = max(most, server.resident_bytes())
    assert most - before < 4 * streams * MEBIBYTE


@pytest.mark.parametrize("how", ["reset", "deadline"])
def test_calls_that_end_behind_a_large_answer_leave_nothing(tmp_path: Path, how: str) -> None:
    asked = request(4)
    asked.id = "x" * MEBIBYTE
    content = message(asked.SerializeToString())
    settings = {INITIAL_WINDOW_SIZE: 0}
    with Server(tmp_path, onnx_models.ones(), extra={"SLIPWAY_GRPC_PORT": "0"}) as server:
        server.start().wait_until_ready()
        with Connection(server.grpc_address, settings, replenish=False) as connection:
            connection.barrier()
            large = connection.start(INFER, request(LARGE).SerializeToString())
            connection.wait(lambda: bool(large.header), "the head of the large answer")
            before = server.resident_bytes()
            fields = {"grpc_timeout": "300m"} if how == "deadline" else {}
            for _ in range(5):
                stream = large
                for _ in range(80):
                    stream = connection.open(request_fields(INFER, **fields))
                    connection.send_data(stream, content)
                    if how == "reset":
                        connection.send(reset(stream.number))
                connection.barrier()
                if how == "deadline":
                    assert connection.finish(stream).grpc_status == DEADLINE_EXCEEDED, stream
            assert not large.done, large
            # The allocator may keep what one of the rounds held at once; never that of two.
            assert server.resident_bytes() - before < 2 * 80 * MEBIBYTE


# ---- refusals ----


def test_who_does_not_speak_grpc_is_answered_once_however_much_follows(
    holding: Connection,
) -> None:
    stream = holding.open(request_fields(INFER, content_type="text/plain"))
    holding.send_data(stream, bytes(300_000), end=False)
    holding.wait(lambda: bool(stream.header), "the refusal")
    for _ in range(10):
        holding.send_data(stream, b"x", end=False)
    # A second head would fail here: it could only be trailers.
    holding.barrier()
    assert (stream.http_status, stream.done) == (415, False), stream
    holding.grant(stream, MEBIBYTE)
    holding.finish(stream)
    assert stream.data.endswith(b"application/grpc\n"), stream


def test_a_call_without_a_token_is_refused_before_its_message_has_come(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    extra = {"SLIPWAY_GRPC_PORT": "0", "SLIPWAY_TOKEN_FILE": str(token)}
    with Server(tmp_path / "server", onnx_models.ones(), extra=extra) as server:
        server.start().wait_until_ready()
        with Connection(server.grpc_address) as connection:
            for path in (INFER, STREAM_INFER):
                for fields in ({}, {"authorization": "Bearer other"}):
                    stream = connection.open(request_fields(path, **fields))
                    connection.finish(stream, 3)
                    assert stream.grpc_status == UNAUTHENTICATED, stream
            answered = connection.call(INFER, ASKED, authorization="Bearer secret")
            assert_answered(answered)


LONG = {"shape": request(4), "name": request(4, name="\u1234" * 9000)}
LONG["shape"].inputs[0].shape[:] = [1] * 9000


@pytest.mark.parametrize("what", LONG)
def test_an_error_that_quotes_something_long_is_short(connection: Connection, what: str) -> None:
    # The client holds frames to 16,384 bytes.
    stream = connection.call(INFER, LONG[what].SerializeToString())
    assert stream.grpc_status == INVALID_ARGUMENT, stream
    told = (stream.trailers or stream.header)["grpc-message"]
    assert 0 < len(told) < 2200, len(told)
    assert re.fullmatch("([ -$&-~]|%[0-9A-F]{2})*", told), told
    assert urllib.parse.unquote(told, errors="strict")


@pytest.mark.parametrize("what", LONG)
def test_grpc_python_is_told_of_something_long(server: Server, what: str) -> None:
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(LONG[what], timeout=10)
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error

"""The end of a server of gRPC: clients that have stalled, or cross it, neither lose nor delay."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from runtime_kit import onnx_models
from runtime_kit.h2_client import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PING,
    PREFACE,
    Connection,
    Frame,
    frame,
    message,
    plain_block,
    request_fields,
    settings_frame,
)
from runtime_kit.process import Server
from tritonclient.grpc import service_pb2

from slipway_runtime.metrics import Metrics
from slipway_runtime.protocol import messages
from slipway_runtime.server.connections import Connections
from slipway_runtime.server.grpc.call import Call, Method, StreamCall
from slipway_runtime.server.grpc.connection import GrpcConnection
from slipway_runtime.server.grpc.status import Code, Fields
from slipway_runtime.settings import ServeSettings

STREAM_INFER = "/inference.GRPCInferenceService/ModelStreamInfer"
WATCH = "/grpc.health.v1.Health/Watch"
# The server waits so long for what does not end, and each test fails well before.
DRAIN_SECONDS = 10
SOON = 5
HEADER_SECONDS = 2
EXTRA = {
    "SLIPWAY_GRPC_PORT": "0",
    "SLIPWAY_DRAIN_TIMEOUT_SECONDS": str(DRAIN_SECONDS),
    "SLIPWAY_HEADER_TIMEOUT_SECONDS": str(HEADER_SECONDS),
}
HALF = b"[1,2,"
REST = b"3,4]"

UNAVAILABLE = 14


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path, onnx_models.linear(), extra=EXTRA) as server:
        yield server.start().wait_until_ready()


class Distant(Connection):
    """A client that is slow to hear: its answers to the server's PINGs are on their way."""

    _on_their_way = b""

    def _on_ping(self, read: Frame) -> None:
        if read.flags & ACK:
            super()._on_ping(read)
        else:
            self._on_their_way += frame(PING, ACK, 0, read.payload)

    def arrive(self) -> None:
        """Let the answers come to the server."""
        self.send(self._on_their_way)
        self._on_their_way = b""


@contextlib.contextmanager
def ends_soon(server: Server) -> Iterator[None]:
    """SIGTERM at the beginning; with the end, the server must not wait for its time-out."""
    began = time.monotonic()
    server.terminate()
    yield
    assert server.wait_for_end(DRAIN_SECONDS + 10).code == 0, server.log
    assert time.monotonic() - began < SOON


def stuck_in_a_head(server: Server, stack: contextlib.ExitStack) -> None:
    """Open a connection that stops within the first frame of its first request."""
    connection = stack.enter_context(Connection(server.grpc_address))
    connection.barrier()
    connection.send(frame(HEADERS, END_HEADERS, 1, plain_block(request_fields(WATCH)))[:20])
    connection.listen(0.15)


def test_clients_that_stall_within_a_head_do_not_disturb_the_end(server: Server) -> None:
    http = server.connect()
    http.putrequest("POST", "/predict")
    http.putheader("content-type", "application/json")
    http.putheader("content-length", str(len(HALF + REST)))
    http.endheaders(HALF)
    with contextlib.ExitStack() as stack:
        stack.callback(http.close)
        # Their time is up one after the other, for some of them just as the server lets them go.
        for _ in range(12):
            stuck_in_a_head(server, stack)
        server.terminate()
        http.sock.settimeout(HEADER_SECONDS + 1.5)
        with pytest.raises(TimeoutError):
            http.sock.recv(1)
        http.send(REST)
        http.sock.settimeout(10)
        reply = http.getresponse()
        assert (reply.status, reply.read()) == (200, b'{"y":[41.0,51.0]}')
        ended = server.wait_for_end(DRAIN_SECONDS)
        assert (ended.code, ended.termination) == (0, {}), ended.log
        assert "Traceback" not in ended.log


@pytest.mark.parametrize(
    ("path", "sent"),
    [(WATCH, message(b"")), (STREAM_INFER, b""), (STREAM_INFER, message(b""))],
    ids=["Watch", "ModelStreamInfer", "ModelStreamInfer with a message"],
)
def test_a_stream_that_opens_between_both_goaways_does_not_hold_up_the_end(
    server: Server, path: str, sent: bytes
) -> None:
    with Distant(server.grpc_address) as connection:
        connection.barrier()
        with ends_soon(server):
            connection.wait(lambda: bool(connection.goaways), "the first GOAWAY")
            stream = connection.open(request_fields(path))
            if sent:
                connection.send(frame(DATA, 0, stream.number, sent))
            connection.barrier()
            connection.arrive()
            connection.finish(stream)
            assert stream.grpc_status == UNAVAILABLE, stream
            connection.wait_until_closed()


def test_a_watch_that_was_held_back_does_not_hold_up_the_end(server: Server) -> None:
    settings = {INITIAL_WINDOW_SIZE: 0}
    with Connection(server.grpc_address, settings, replenish=False) as connection:
        connection.barrier()
        stream = connection.open(request_fields(WATCH))
        connection.send(frame(DATA, END_STREAM, stream.number, message(b"")))
        connection.barrier()
        with ends_soon(server):
            connection.wait(lambda: bool(connection.goaways), "the first GOAWAY")
            connection.barrier()
            connection.grant(stream, 1000)
            connection.wait_until_closed(DRAIN_SECONDS + 10)


def rounds(count: int) -> bytes:
    asked = service_pb2.ModelInferRequest(model_name="m")
    made = asked.inputs.add(name="rounds", datatype="INT64", shape=[1])
    made.contents.int64_contents.append(count)
    return asked.SerializeToString()


def test_messages_that_wait_when_the_server_stops_are_answered(tmp_path: Path) -> None:
    with Server(tmp_path, onnx_models.busy(), extra=EXTRA) as server:
        server.start().wait_until_ready()
        with Connection(server.grpc_address) as connection:
            stream = connection.open(request_fields(STREAM_INFER))
            connection.send_data(stream, message(rounds(700)) * 3, end=False)
            connection.barrier()
            assert not stream.data, "the first message was too short for this test"
            with ends_soon(server):
                connection.finish(stream)
                assert len(stream.messages) == 3
                assert stream.grpc_status == UNAVAILABLE, stream


class Terms:
    """Admits everything, and keeps how calls ended."""

    told_always: Fields = ()
    trailers_ok: Final = b"\x88"

    def __init__(self) -> None:
        self.noted = asyncio.Queue[Code]()

    def limit(self, _method: Method) -> int:
        return 1000

    def admit(self, call: Call) -> None:
        pass

    def note(self, call: Call, request_id: str, answer: Any, seconds: float, code: Code) -> None:
        self.noted.put_nowait(code)


@pytest.mark.parametrize("before", [0, 1], ids=["first", "second"])
async def test_messages_that_come_in_the_turn_in_which_the_server_stops_are_answered(
    before: int,
) -> None:
    taken = asyncio.Queue[Any]()

    async def take(call: StreamCall) -> None:
        async for one in call.messages():
            taken.put_nowait(one)

    loop, terms = asyncio.get_running_loop(), Terms()
    method = Method("/x", take, messages.message("ServerLiveRequest"), streams=True)
    connections = Connections(ServeSettings(), Metrics("m", "1", "digest"))
    connection = GrpcConnection({b"/x": method}, terms, connections)
    ours, theirs = socket.socketpair()
    with theirs:
        ours.setblocking(False)
        await loop.connect_accepted_socket(lambda: connection, ours)
        head = frame(HEADERS, END_HEADERS, 1, plain_block(request_fields("/x")))
        connection.data_received(PREFACE + settings_frame({}) + head)
        connection.data_received(frame(DATA, 0, 1, message(b"") * before))
        for _ in range(before):
            await asyncio.wait_for(taken.get(), 5)
        # Nothing else happens between these two.
        connection.data_received(frame(DATA, 0, 1, message(b"") * 2))
        connection.finish()
        assert await asyncio.wait_for(terms.noted.get(), 5) is Code.UNAVAILABLE
        assert taken.qsize() == 2
        connection.abort()

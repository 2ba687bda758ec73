"""The port of gRPC and clients that mean harm: their connection ends, and others notice nothing."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from runtime_kit import onnx_models
from runtime_kit.h2_client import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PREFACE,
    PRIORITY,
    PROTOCOL_ERROR,
    Connection,
    frame,
    message,
    pieces,
    ping,
    plain_block,
    request_fields,
    reset,
    settings_frame,
    window_update,
)
from runtime_kit.process import Server
from tritonclient.grpc import service_pb2

INFER = "/inference.GRPCInferenceService/ModelInfer"
MEBIBYTE = 1024 * 1024
HEADER_SECONDS = 1
EXTRA = {
    "SLIPWAY_GRPC_PORT": "0",
    "SLIPWAY_MAX_BODY_BYTES": str(MEBIBYTE),
    "SLIPWAY_HEADER_TIMEOUT_SECONDS": str(HEADER_SECONDS),
    "SLIPWAY_BODY_TIMEOUT_SECONDS": "3",
}
# What an abuse may leave in the server's memory, and what sockets of both sides may hold besides.
MEMORY = 64 * MEBIBYTE
IN_SOCKETS = 16 * MEBIBYTE
STREAMS = 5000


def asking(count: int) -> bytes:
    asked = service_pb2.ModelInferRequest(model_name="m")
    asked.inputs.add(name="x", datatype="FP32", shape=[count])
    asked.raw_input_contents.append(np.zeros(count, np.float32).tobytes())
    return asked.SerializeToString()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    model = onnx_models.identity(shape=("n",))
    with Server(tmp_path_factory.mktemp("abuse"), model, extra=EXTRA) as server:
        yield server.start().wait_until_ready()


@pytest.fixture
def bystander(server: Server) -> Iterator[Connection]:
    """Another client's connection: it works before and after, and memory is what it was."""
    with Connection(server.grpc_address) as connection:
        assert connection.call(INFER, asking(4)).grpc_status == 0
        before = server.resident_bytes()
        yield connection
        assert connection.call(INFER, asking(4)).grpc_status == 0
    assert server.resident_bytes() - before < MEMORY


@pytest.fixture
def attacker(server: Server, bystander: Connection) -> Iterator[Connection]:
    with Connection(server.grpc_address) as connection:
        connection.barrier()
        yield connection


def assert_ended(connection: Connection, *codes: int) -> None:
    """The connection ends, and if its end is told, then by one of the codes."""
    connection.wait_until_closed(20)
    told = [code for _, code in connection.goaways if code != 0]
    assert set(told) <= set(codes), connection
    assert told, f"the end came without a GOAWAY: {connection}"


def keep_sending(
    connection: Connection, part: Callable[[], bytes], bystander: Connection | None = None
) -> int:
    """Send until the server ends the connection, reading what comes; return how often."""
    for sent in range(STREAMS):
        if connection.closed:
            return sent
        connection.send(part())
        if sent % 100 == 0:
            connection.drain()
            if bystander is not None:
                assert bystander.call(INFER, asking(4)).grpc_status == 0
    connection.wait_until_closed()
    return STREAMS


def opened(connection: Connection, *, end: bool = False) -> tuple[int, bytes]:
    stream = connection.new_stream()
    flags = END_HEADERS | (END_STREAM if end else 0)
    return stream.number, frame(
        HEADERS, flags, stream.number, connection.block(request_fields(INFER))
    )


def test_streams_that_are_reset_at_once_end_the_connection(
    attacker: Connection, bystander: Connection
) -> None:
    def part() -> bytes:
        number, head = opened(attacker)
        return head + reset(number)

    keep_sending(attacker, part, bystander)
    assert_ended(attacker, ENHANCE_YOUR_CALM)


def test_calls_that_are_cancelled_at_once_end_the_connection(
    attacker: Connection, bystander: Connection
) -> None:
    content = message(asking(4))

    def part() -> bytes:
        number, head = opened(attacker)
        return head + frame(DATA, END_STREAM, number, content) + reset(number)

    keep_sending(attacker, part, bystander)
    assert_ended(attacker, ENHANCE_YOUR_CALM)


def test_streams_that_the_server_is_made_to_reset_end_the_connection(
    attacker: Connection, bystander: Connection
) -> None:
    def part() -> bytes:
        number, head = opened(attacker)
        return head + window_update(number, 0)

    keep_sending(attacker, part, bystander)
    assert_ended(attacker, ENHANCE_YOUR_CALM, PROTOCOL_ERROR)


def test_a_header_without_an_end_ends_the_connection(attacker: Connection) -> None:
    number, _ = opened(attacker)
    attacker.send(frame(HEADERS, END_STREAM, number, attacker.block([("x", "y")])))
    more = attacker.block([("a" * 8000, "b" * 8000)])
    sent = attacker.flood(frame(CONTINUATION, 0, number, more))
    assert sent < IN_SOCKETS
    attacker.wait_until_closed()


def test_continuations_without_content_end_the_connection(attacker: Connection) -> None:
    number, _ = opened(attacker)
    attacker.send(frame(HEADERS, END_STREAM, number, attacker.block([("x", "y")])))
    sent = attacker.flood(frame(CONTINUATION, 0, number) * 1000)
    assert sent < IN_SOCKETS
    attacker.wait_until_closed()


@pytest.mark.parametrize(
    "fields",
    [[("x-large", "a" * MEBIBYTE)], [(f"x-{number}", "a") for number in range(40_000)]],
    ids=["one field", "many fields"],
)
def test_a_header_that_is_too_large_is_refused(
    attacker: Connection, fields: list[tuple[str, str]]
) -> None:
    stream = attacker.new_stream()
    block = attacker.block([*request_fields(INFER), *fields], huffman=False)
    attacker.send(*pieces(HEADERS, stream.number, block, 16_384, 0))
    attacker.send(frame(DATA, END_STREAM, stream.number, message(asking(4))))
    attacker.wait(lambda: stream.done or attacker.closed, "an answer")
    assert attacker.closed or stream.failed, stream


def test_a_small_header_that_unpacks_to_a_large_one_is_refused(attacker: Connection) -> None:
    # An entry of 4,000 bytes in the dynamic table, and 16,000 references to it: 64 MB in 16 KB.
    entry = b"\x40\x01x" + b"\x7f" + bytes([(3990 - 127) & 0x7F | 0x80, (3990 - 127) >> 7])
    head = plain_block(request_fields(INFER))
    for block in (head + entry + b"a" * 3990, *[head + b"\xbe" * 16_000] * 20):
        stream = attacker.new_stream()
        attacker.send(
            frame(HEADERS, END_HEADERS, stream.number, block),
            frame(DATA, END_STREAM, stream.number, message(asking(4))),
        )
        attacker.wait(lambda stream=stream: stream.done or attacker.closed, "an answer")
        if attacker.closed:
            break
        assert stream.failed is (stream.number > 1), stream


@pytest.mark.parametrize(
    "part",
    [
        settings_frame({INITIAL_WINDOW_SIZE: 65_535}),
        ping(),
        settings_frame({}),
    ],
    ids=["SETTINGS", "PING", "empty SETTINGS"],
)
@pytest.mark.timeout(120)
def test_questions_whose_answers_nobody_reads_end_the_connection(
    server: Server, bystander: Connection, part: bytes
) -> None:
    with Connection(server.grpc_address, receive_buffer=4096) as attacker:
        attacker.barrier()
        attacker.flood(part * 1000, seconds=60)


@pytest.mark.parametrize("kind", ["empty DATA", "PRIORITY", "unknown", "WINDOW_UPDATE"])
def test_frames_without_a_meaning_pile_up_nowhere(
    attacker: Connection, bystander: Connection, kind: str
) -> None:
    stream = attacker.open(request_fields(INFER))
    part = {
        "empty DATA": frame(DATA, 0, stream.number),
        "PRIORITY": frame(PRIORITY, 0, stream.number + 100, struct.pack(">IB", 0, 1)),
        "unknown": frame(0xBE, 0, stream.number, bytes(8)),
        "WINDOW_UPDATE": window_update(stream.number, 1),
    }[kind]
    # It may end the connection, or bear with it.
    for _ in range(100):
        attacker.send(part * 1000)
        attacker.drain()
        if attacker.closed:
            break
    assert bystander.call(INFER, asking(4)).grpc_status == 0
    if not attacker.closed and not stream.done:
        attacker.send_data(stream, message(asking(4)))
        attacker.wait(lambda: attacker.closed or stream.done, "an answer", 30)


def test_answers_that_nobody_takes_pile_up_nowhere(server: Server, bystander: Connection) -> None:
    content = asking(60_000)
    before = server.resident_bytes()
    with Connection(server.grpc_address, {INITIAL_WINDOW_SIZE: 0}, replenish=False) as attacker:
        attacker.barrier()
        # At some point it gives no window for requests either, refuses streams, or ends it all.
        with contextlib.suppress(AssertionError):
            for _ in range(1000):
                attacker.start(INFER, content)
                attacker.drain()
        assert bystander.call(INFER, asking(4)).grpc_status == 0
        assert server.resident_bytes() - before < 2 * MEMORY


# ---- the beginning of a connection ----


def until_closed(connection: socket.socket, seconds: float = 10) -> bytes:
    """Read to the end of the connection."""
    connection.settimeout(seconds)
    parts = list[bytes]()
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


@contextlib.contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    host, _, port = server.grpc_address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        yield connection


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n[1,2,3,4]",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        PREFACE[:-6] + b"XX\r\n\r\n" + settings_frame({}),
        bytes(range(256)) * 16,
        PREFACE + ping(),
        PREFACE + frame(DATA, 0, 1, b"x"),
    ],
    ids=["GET", "POST", "TLS", "almost", "noise", "PING first", "DATA first"],
)
def test_what_does_not_begin_as_http_2_is_closed(
    server: Server, bystander: Connection, sent: bytes
) -> None:
    with connected(server) as connection:
        connection.sendall(sent)
        until_closed(connection)


@pytest.mark.parametrize(
    "sent",
    [b"", PREFACE[:10], PREFACE, PREFACE + settings_frame({1: 0})[:7]],
    ids=["nothing", "half a preface", "no settings", "half the settings"],
)
def test_who_is_slow_to_begin_is_closed(server: Server, bystander: Connection, sent: bytes) -> None:
    with connected(server) as connection:
        began = time.monotonic()
        connection.sendall(sent)
        until_closed(connection, 15)
        assert 0.5 * HEADER_SECONDS < time.monotonic() - began < 10


def test_who_is_slow_to_finish_a_header_is_closed(server: Server, attacker: Connection) -> None:
    number, _ = opened(attacker)
    attacker.send(frame(HEADERS, 0, number, attacker.block([("x", "y")])))
    attacker.wait_until_closed(15)


def test_a_frame_that_does_not_end_is_closed(server: Server, attacker: Connection) -> None:
    _, head = opened(attacker)
    attacker.send(head[:-5])
    attacker.wait_until_closed(15)


def test_who_is_done_with_the_beginning_may_wait(attacker: Connection) -> None:
    attacker.listen(3 * HEADER_SECONDS)
    assert attacker.call(INFER, asking(4)).grpc_status == 0


def test_many_connections_that_say_nothing_hold_up_nobody(
    server: Server, bystander: Connection
) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(connected(server))
        with Connection(server.grpc_address) as connection:
            assert connection.call(INFER, asking(4)).grpc_status == 0

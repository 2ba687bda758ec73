"""The port of gRPC as frames: what RFC 9113 and gRPC's PROTOCOL-HTTP2 ask of a server."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runtime_kit import onnx_models
from runtime_kit.h2_client import (
    CANCEL,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    NO_ERROR,
    PADDED,
    PRIORITY,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    UNLIMITED,
    WITH_PRIORITY,
    Connection,
    Stream,
    frame,
    message,
    pieces,
    ping,
    request_fields,
    reset,
    window_update,
)
from runtime_kit.process import Server
from tritonclient.grpc import service_pb2

SERVICE = "/inference.GRPCInferenceService"
INFER = f"{SERVICE}/ModelInfer"
LIVE = f"{SERVICE}/ServerLive"
LARGEST = 1024 * 1024
ON = {"SLIPWAY_GRPC_PORT": "0", "SLIPWAY_MAX_BODY_BYTES": str(LARGEST)}
FOREVER = 10**8

INVALID_ARGUMENT, DEADLINE_EXCEEDED = 3, 4
RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = 8, 12, 13


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    model = onnx_models.identity(shape=("n",))
    with Server(tmp_path_factory.mktemp("frames"), model, extra=ON) as server:
        yield server.start().wait_until_ready()


@pytest.fixture
def connection(server: Server) -> Iterator[Connection]:
    with Connection(server.grpc_address) as connection:
        yield connection


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("busy"), onnx_models.busy(), extra=ON) as server:
        yield server.start().wait_until_ready()


def asking(count: int = 4) -> bytes:
    """A request to have so many FP32 elements back."""
    asked = service_pb2.ModelInferRequest(model_name="m")
    asked.inputs.add(name="x", datatype="FP32", shape=[count])
    asked.raw_input_contents.append(elements(count))
    return asked.SerializeToString()


def elements(count: int) -> bytes:
    return np.arange(count, dtype=np.float32).tobytes()


def rounds(count: int) -> bytes:
    asked = service_pb2.ModelInferRequest(model_name="m")
    made = asked.inputs.add(name="rounds", datatype="INT64", shape=[1])
    made.contents.int64_contents.append(count)
    return asked.SerializeToString()


def assert_answered(stream: Stream, count: int = 4) -> None:
    """Hold the answer to what was asked for, and its form to what gRPC says."""
    assert (stream.http_status, stream.grpc_status, stream.ended) == (200, 0, True), stream
    assert stream.header["content-type"].startswith("application/grpc")
    (content,) = stream.messages
    answer = service_pb2.ModelInferResponse.FromString(content)
    assert list(answer.raw_output_contents) == [elements(count)]


def assert_works(connection: Connection) -> None:
    assert_answered(connection.call(INFER, asking()))


# ---- frames ----


def test_settings_are_acknowledged_each_time(connection: Connection) -> None:
    for _ in range(3):
        connection.configure({INITIAL_WINDOW_SIZE: 100_000, 0xABCD: 7})
    connection.wait(lambda: connection.acknowledged == 4, "four acknowledgements")
    assert_works(connection)


def test_a_ping_comes_back_with_what_it_carried(connection: Connection) -> None:
    connection.send(ping(b"12345678"), ping(b"abcdefgh"))
    connection.wait(lambda: len(connection.pongs) == 2, "two answers")
    assert connection.pongs == [b"12345678", b"abcdefgh"]


def test_frames_that_say_nothing_to_a_server_are_ignored(connection: Connection) -> None:
    priority = struct.pack(">IB", 0, 15)
    stream = connection.open(request_fields(INFER))
    connection.send(
        frame(PRIORITY, 0, 99, priority),
        frame(PRIORITY, 0, stream.number, priority),
        frame(0xBE, 0xFF, 0, b"unknown"),
        frame(0xBE, 0xFF, stream.number, b"unknown"),
        frame(0xBE, 0, 98, b""),
    )
    connection.send_data(stream, message(asking()))
    assert_answered(connection.finish(stream))


@pytest.mark.parametrize("size", [10, 1000])
def test_a_header_may_be_split_into_frames(connection: Connection, size: int) -> None:
    stream = connection.new_stream()
    block = connection.block(request_fields(INFER))
    connection.send(*pieces(HEADERS, stream.number, block, size, 0))
    connection.send_data(stream, message(asking()))
    assert_answered(connection.finish(stream))


def test_bytes_may_come_one_by_one(connection: Connection) -> None:
    stream = connection.new_stream()
    asked = message(asking())
    sent = frame(HEADERS, END_HEADERS, stream.number, connection.block(request_fields(INFER)))
    sent += frame(DATA, END_STREAM, stream.number, asked)
    for octet in sent:
        connection.send(bytes([octet]))
    assert_answered(connection.finish(stream))


def test_a_message_may_be_split_anywhere_into_data(connection: Connection) -> None:
    stream = connection.open(request_fields(INFER))
    for octet in message(asking()):
        connection.send(frame(DATA, 0, stream.number, bytes([octet])))
    connection.send(frame(DATA, END_STREAM, stream.number))
    assert_answered(connection.finish(stream))


def test_padding_and_priority_of_a_call_are_left_aside(connection: Connection) -> None:
    stream = connection.new_stream()
    block = connection.block(request_fields(INFER))
    head = b"\x20" + struct.pack(">IB", 0, 15) + block + bytes(32)
    asked = b"\xff" + message(asking()) + bytes(255)
    connection.send(
        frame(HEADERS, END_HEADERS | PADDED | WITH_PRIORITY, stream.number, head),
        frame(DATA, END_STREAM | PADDED, stream.number, asked),
    )
    assert_answered(connection.finish(stream))


def test_a_request_that_ends_in_trailers_is_answered_or_refused(connection: Connection) -> None:
    stream = connection.open(request_fields(INFER))
    connection.send_data(stream, message(asking()), end=False)
    trailers = connection.block([("x-late", "1")])
    connection.send(frame(HEADERS, END_HEADERS | END_STREAM, stream.number, trailers))
    # HTTP/2 has trailers of requests, gRPC has not.
    if not connection.finish(stream).failed:
        assert_answered(stream)
    assert_works(connection)


def test_many_calls_are_answered_side_by_side(connection: Connection) -> None:
    streams = [connection.start(INFER, asking(number)) for number in range(1, 51)]
    for number, stream in enumerate(streams, start=1):
        assert_answered(connection.finish(stream), number)


def test_who_says_goaway_still_gets_its_answers(connection: Connection) -> None:
    stream = connection.start(INFER, asking(10_000))
    connection.send(frame(GOAWAY, payload=struct.pack(">II", 0, NO_ERROR)))
    assert_answered(connection.finish(stream), 10_000)


# ---- flow control; that the server keeps within windows is checked by the client ----


def test_an_answer_comes_as_fast_as_the_window_of_its_stream_lets_it(server: Server) -> None:
    with Connection(server.grpc_address, {INITIAL_WINDOW_SIZE: 1}, replenish=False) as connection:
        stream = connection.start(INFER, asking())
        for size in range(1, 6):
            connection.wait(lambda size=size: len(stream.data) == size, f"{size} bytes")
            connection.barrier()
            assert len(stream.data) == size
            connection.grant(stream, 1)
        connection.grant(stream, 1000)
        assert_answered(connection.finish(stream))


def test_a_window_may_become_negative_and_positive_again(server: Server) -> None:
    settings = {INITIAL_WINDOW_SIZE: 1000}
    with Connection(server.grpc_address, settings, replenish=False) as connection:
        stream = connection.start(INFER, asking(10_000))
        connection.wait(lambda: len(stream.data) == 1000, "a full window")
        connection.configure({INITIAL_WINDOW_SIZE: 0})
        connection.grant(stream, 400)
        connection.barrier()
        assert len(stream.data) == 1000
        connection.grant(stream, 601)
        connection.wait(lambda: len(stream.data) == 1001, "the byte above zero")
        connection.barrier()
        assert len(stream.data) == 1001
        connection.configure({INITIAL_WINDOW_SIZE: 50_000})
        assert_answered(connection.finish(stream), 10_000)


def test_settings_alone_can_open_the_windows_of_waiting_streams(server: Server) -> None:
    with Connection(server.grpc_address, {INITIAL_WINDOW_SIZE: 0}, replenish=False) as connection:
        streams = [connection.start(INFER, asking(500)) for _ in range(5)]
        connection.barrier()
        assert not any(stream.data for stream in streams)
        connection.configure({INITIAL_WINDOW_SIZE: 3000})
        for stream in streams:
            assert_answered(connection.finish(stream), 500)


def test_streams_share_the_window_of_their_connection(server: Server) -> None:
    settings = {INITIAL_WINDOW_SIZE: UNLIMITED}
    with Connection(server.grpc_address, settings, replenish=False) as connection:
        streams = [connection.start(INFER, asking(25_000)) for _ in range(3)]

        def total() -> int:
            return sum(len(stream.data) for stream in streams)

        connection.wait(lambda: total() == 65_535, "a full window")
        connection.barrier()
        assert total() == 65_535
        connection.grant(None, 1_000_000)
        for stream in streams:
            assert_answered(connection.finish(stream), 25_000)


def test_an_empty_window_of_one_stream_holds_up_no_other(server: Server) -> None:
    with Connection(server.grpc_address, {INITIAL_WINDOW_SIZE: 0}, replenish=False) as connection:
        stuck = connection.start(INFER, asking(10_000))
        connection.barrier()
        other = connection.start(INFER, asking())
        connection.grant(other, 1000)
        assert_answered(connection.finish(other))
        connection.send(reset(stuck.number))
        later = connection.start(INFER, asking())
        connection.grant(later, 1000)
        assert_answered(connection.finish(later))


@pytest.mark.parametrize("size", [16_384, 40_000, 2**24 - 1])
def test_frames_are_no_larger_than_the_client_allows(server: Server, size: int) -> None:
    with Connection(server.grpc_address, {MAX_FRAME_SIZE: size}) as connection:
        assert_answered(connection.call(INFER, asking(200_000)), 200_000)


def test_a_request_may_be_larger_than_every_window(connection: Connection) -> None:
    count = (LARGEST - 1000) // 4
    for _ in range(3):
        assert_answered(connection.call(INFER, asking(count)), count)


def test_what_is_sent_as_padding_is_given_back(connection: Connection) -> None:
    stream = connection.open(request_fields(INFER))
    asked = message(asking(200))
    size = 2 + 255
    for index, octet in enumerate(asked):
        connection.wait(
            lambda: min(connection.send_window, stream.send_window) >= size, "a window to send in"
        )
        connection.send_window -= size
        stream.send_window -= size
        last = END_STREAM if index == len(asked) - 1 else 0
        payload = b"\xff" + bytes([octet]) + bytes(255)
        connection.send(frame(DATA, PADDED | last, stream.number, payload))
        connection.drain()
    assert_answered(connection.finish(stream), 200)


@pytest.mark.parametrize("how", ["refused", "reset", "invalid"])
def test_calls_that_come_to_nothing_use_up_no_window(connection: Connection, how: str) -> None:
    junk = message(bytes(60_000))
    for _ in range(40):
        stream = connection.open(
            request_fields(f"{SERVICE}/Nothing" if how == "refused" else INFER)
        )
        connection.send_data(stream, junk, end=how != "reset")
        if how == "reset":
            connection.send(reset(stream.number))
        else:
            assert connection.finish(stream).failed, stream
    assert_works(connection)


# ---- what gRPC says of a call ----


@pytest.mark.parametrize(
    "path", [f"{SERVICE}/NoSuchMethod", "/no.such.Service/Method", "/x", "/", "/a/b/c", "/%ff"]
)
def test_an_unknown_method_is_unimplemented(connection: Connection, path: str) -> None:
    assert connection.call(path, asking()).grpc_status == UNIMPLEMENTED
    assert_works(connection)


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/grp", ""])
def test_another_content_type_is_415(connection: Connection, kind: str) -> None:
    stream = connection.call(INFER, asking(), content_type=kind)
    assert stream.http_status == 415
    assert_works(connection)


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto"])
def test_both_content_types_of_grpc_with_protobuf_are_taken(
    connection: Connection, kind: str
) -> None:
    assert_answered(connection.call(INFER, asking(), content_type=kind))


def test_a_get_is_refused(connection: Connection) -> None:
    stream = connection.open(request_fields(LIVE, **{":method": "GET"}), end=True)
    connection.finish(stream)
    assert stream.failed
    assert stream.http_status in (405, 415, 400, 200, None)
    assert_works(connection)


@pytest.mark.parametrize(
    ("count", "sent"), [(0, b""), (2, message(asking()) * 2)], ids=["none", "two"]
)
def test_a_unary_call_has_one_message(connection: Connection, count: int, sent: bytes) -> None:
    stream = connection.open(request_fields(INFER), end=not sent)
    if sent:
        connection.send_data(stream, sent)
    connection.finish(stream)
    # statuscodes.md names the first for either; servers in use answer with the second.
    assert stream.grpc_status in (UNIMPLEMENTED, INTERNAL), stream
    assert_works(connection)


@pytest.mark.parametrize("cut", [1, 4, 5, 20])
def test_half_a_message_fails_its_call_alone(connection: Connection, cut: int) -> None:
    stream = connection.open(request_fields(INFER))
    connection.send_data(stream, message(asking())[:cut])
    assert connection.finish(stream).failed, stream
    assert_works(connection)


def test_a_message_above_the_limit_is_refused(connection: Connection) -> None:
    stream = connection.call(INFER, asking(LARGEST // 4 + 1))
    assert stream.grpc_status == RESOURCE_EXHAUSTED
    assert_works(connection)


def test_a_message_above_the_limit_is_refused_by_its_length_alone(connection: Connection) -> None:
    stream = connection.open(request_fields(INFER))
    connection.send_data(stream, struct.pack(">BI", 0, 2**32 - 1) + b"x", end=False)
    assert connection.finish(stream).grpc_status == RESOURCE_EXHAUSTED
    assert_works(connection)


def test_who_needs_no_token_may_send_only_little(connection: Connection) -> None:
    for path in (
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ):
        stream = connection.open(request_fields(path))
        connection.send_data(stream, message(bytes(65 * 1024)))
        assert connection.finish(stream).grpc_status == RESOURCE_EXHAUSTED
    assert_works(connection)


@pytest.mark.parametrize("encoding", ["unheard-of", "br"])
def test_an_unknown_compression_is_unimplemented_and_the_known_are_named(
    connection: Connection, encoding: str
) -> None:
    stream = connection.open(request_fields(INFER, grpc_encoding=encoding))
    connection.send_data(stream, b"\x01" + message(asking())[1:])
    connection.finish(stream)
    assert stream.grpc_status == UNIMPLEMENTED, stream
    known = (stream.header | stream.trailers).get("grpc-accept-encoding", "")
    assert {"identity", "gzip"} <= {name.strip() for name in known.split(",")}
    assert_works(connection)


@pytest.mark.parametrize(
    ("encoding", "flag", "code"),
    [
        pytest.param(None, 1, INTERNAL, id="no encoding"),
        pytest.param("identity", 1, INTERNAL, id="identity"),
        pytest.param("gzip", 2, INTERNAL, id="no flag of gRPC"),
        pytest.param("gzip", 1, INVALID_ARGUMENT, id="not gzip"),
    ],
)
def test_a_message_is_not_compressed_as_its_flag_says(
    connection: Connection, encoding: str | None, flag: int, code: int
) -> None:
    more = {"grpc_encoding": encoding} if encoding else {}
    stream = connection.open(request_fields(INFER, **more))
    connection.send_data(stream, bytes((flag,)) + message(asking())[1:])
    assert connection.finish(stream).grpc_status == code
    assert_works(connection)


def test_compressed_and_plain_messages_may_be_mixed(connection: Connection) -> None:
    for compressed in (True, False):
        fields = request_fields(
            INFER, grpc_encoding="gzip", grpc_accept_encoding="identity,deflate,gzip"
        )
        stream = connection.open(fields)
        connection.send_data(stream, message(asking(1000), compressed=compressed))
        assert_answered(connection.finish(stream), 1000)


@pytest.mark.parametrize("members", [1, 200])
def test_a_message_that_inflates_beyond_the_limit_is_refused(
    server: Server, connection: Connection, members: int
) -> None:
    assert_works(connection)
    before = server.resident_bytes()
    # Several members, as gzip allows, must not be inflated each on its own.
    bomb = gzip.compress(bytes(256 * LARGEST // members)) * members
    assert len(bomb) < LARGEST
    stream = connection.open(request_fields(INFER, grpc_encoding="gzip"))
    connection.send_data(stream, struct.pack(">BI", 1, len(bomb)) + bomb)
    connection.finish(stream)
    # A server may know only one member, and take the rest for damage.
    damage = (INTERNAL, INVALID_ARGUMENT) if members > 1 else ()
    assert stream.grpc_status in (RESOURCE_EXHAUSTED, *damage)
    assert server.resident_bytes() - before < 32 * LARGEST
    assert_works(connection)


# ---- deadlines ----


@pytest.mark.parametrize("timeout", ["300m", "300000u", "1S", "99999999n", "0n"])
def test_a_deadline_is_kept(busy: Server, timeout: str) -> None:
    with Connection(busy.grpc_address) as connection:
        stream = connection.call(INFER, rounds(FOREVER), grpc_timeout=timeout)
        assert stream.grpc_status == DEADLINE_EXCEEDED, stream
        assert connection.call(INFER, rounds(1)).grpc_status == 0


def test_a_deadline_ends_a_call_whose_message_does_not_come(busy: Server) -> None:
    with Connection(busy.grpc_address) as connection:
        stream = connection.open(request_fields(INFER, grpc_timeout="300m"))
        assert connection.finish(stream).grpc_status == DEADLINE_EXCEEDED, stream


@pytest.mark.parametrize("timeout", ["1H", "1M", "10S", "10000m", "10000000u", "99999999H"])
def test_a_deadline_that_is_far_changes_nothing(connection: Connection, timeout: str) -> None:
    assert_answered(connection.call(INFER, asking(), grpc_timeout=timeout))


@pytest.mark.parametrize("timeout", ["", "1", "m", "1x", "-1S", "1.5S", "123456789S", "1SS", "é"])
def test_a_malformed_deadline_is_no_defect(
    server: Server, connection: Connection, timeout: str
) -> None:
    logged = len(server.log)
    stream = connection.call(INFER, asking(), grpc_timeout=timeout)
    # The protocol leaves open what it means: nothing, an error of the call, or of the stream.
    assert (
        stream.grpc_status in (0, INVALID_ARGUMENT, INTERNAL)
        or stream.http_status == 400
        or stream.reset == PROTOCOL_ERROR
    ), stream
    assert_works(connection)
    assert "Traceback" not in server.log[logged:]


# ---- streams and the end of a connection ----


def test_a_stream_of_messages_is_answered_one_by_one(connection: Connection) -> None:
    stream = connection.open(request_fields(f"{SERVICE}/ModelStreamInfer"))
    for count in range(1, 6):
        connection.send_data(stream, message(asking(count)), end=False)
        connection.wait(lambda count=count: len(stream.messages) == count, f"answer {count}")
    connection.send(frame(DATA, END_STREAM, stream.number))
    assert connection.finish(stream).grpc_status == 0
    for count, content in enumerate(stream.messages, start=1):
        answer: Any = service_pb2.ModelStreamInferResponse.FromString(content)
        assert list(answer.infer_response.raw_output_contents) == [elements(count)]


def test_more_streams_than_allowed_are_refused(connection: Connection) -> None:
    connection.barrier()
    most = connection.peer.get(MAX_CONCURRENT_STREAMS)
    assert most is not None, "the server allows any number of streams"
    assert most <= 10_000
    opened = [connection.open(request_fields(INFER)) for _ in range(most)]
    refused = [connection.open(request_fields(INFER)) for _ in range(3)]
    for stream in refused:
        connection.finish(stream)
        # RFC 9113, 5.1.2, allows either.
        assert stream.reset in (REFUSED_STREAM, PROTOCOL_ERROR), stream
    connection.barrier()
    assert not any(stream.done for stream in opened)
    connection.send(reset(opened[0].number))
    assert_works(connection)
    connection.send_data(opened[-1], message(asking()))
    assert_answered(connection.finish(opened[-1]))


def test_a_call_that_was_reset_says_no_more(busy: Server) -> None:
    with Connection(busy.grpc_address) as connection:
        gone = connection.start(INFER, rounds(FOREVER))
        connection.barrier()
        connection.send(reset(gone.number, CANCEL), window_update(gone.number, 1000))
        assert connection.call(INFER, rounds(1)).grpc_status == 0
        assert not gone.header


def test_sigterm_says_goaway_and_finishes_what_is_in_flight(tmp_path: Path) -> None:
    with Server(tmp_path, onnx_models.busy(), extra=ON) as server:
        server.start().wait_until_ready()
        with Connection(server.grpc_address) as connection:
            assert connection.call(INFER, rounds(10)).grpc_status == 0
            slow = connection.start(INFER, rounds(8000))
            connection.barrier()
            server.terminate()
            # The first GOAWAY may leave the number open, for what is on its way.
            connection.wait(
                lambda: any(last < UNLIMITED for last, _ in connection.goaways), "a GOAWAY"
            )
            last, code = connection.goaways[-1]
            assert code == NO_ERROR
            assert last >= slow.number
            assert not slow.done, "the call was too short for this test"
            late = connection.start(INFER, rounds(1)) if not connection.closed else None
            assert connection.finish(slow, 30).grpc_status == 0
            connection.wait_until_closed()
            assert late is None or late.number <= last or late.grpc_status != 0
        assert server.wait_for_end(20).code == 0


def test_an_idle_connection_hears_of_the_end(tmp_path: Path) -> None:
    with Server(tmp_path, onnx_models.identity(shape=("n",)), extra=ON) as server:
        server.start().wait_until_ready()
        with Connection(server.grpc_address) as connection:
            assert_works(connection)
            server.terminate()
            connection.wait_until_closed()
            assert [code for _, code in connection.goaways][-1:] == [NO_ERROR]
        assert server.wait_for_end(20).code == 0


def test_a_header_may_use_what_an_earlier_one_has_defined(connection: Connection) -> None:
    for number in range(100):
        fields = request_fields(INFER, x_request_id=f"id-{number % 7}", **{"x-a-bin": "AAA="})
        stream = connection.open(fields)
        connection.send_data(stream, message(asking()))
        assert_answered(connection.finish(stream))

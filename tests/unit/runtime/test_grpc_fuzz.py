"""Frames of any kind in any order, and damaged ones, against the port of gRPC."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st
from runtime_kit import onnx_models
from runtime_kit.fuzzing import examples, mutated, mutations
from runtime_kit.h2_client import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    PREFACE,
    WITH_PRIORITY,
    Connection,
    Fields,
    frame,
    message,
    pieces,
    ping,
    request_fields,
    reset,
    settings_frame,
    window_update,
)
from runtime_kit.process import Server
from tritonclient.grpc import service_pb2

SERVICE = "/inference.GRPCInferenceService"
METHODS = (
    f"{SERVICE}/ModelInfer",
    f"{SERVICE}/ModelStreamInfer",
    f"{SERVICE}/ServerLive",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    f"{SERVICE}/Nothing",
)
EXTRA = {"SLIPWAY_GRPC_PORT": "0", "SLIPWAY_MAX_BODY_BYTES": "100000"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    model = onnx_models.identity(shape=("n",))
    with Server(tmp_path_factory.mktemp("fuzz"), model, extra=EXTRA) as server:
        yield server.start().wait_until_ready()


@pytest.fixture(scope="module")
def address(server: Server) -> str:
    """Taken from the log before anything odd is in there."""
    return server.grpc_address


@pytest.fixture(scope="module")
def bystander(address: str) -> Iterator[Connection]:
    with Connection(address) as connection:
        yield connection


def asking() -> bytes:
    asked = service_pb2.ModelInferRequest(model_name="m")
    made = asked.inputs.add(name="x", datatype="FP32", shape=[2])
    made.contents.fp32_contents.extend([1, 2])
    return asked.SerializeToString()


ASKED = message(asking())


def block(fields: Fields) -> bytes:
    """Compress a header without what came before on the connection."""
    encoder: Any = Encoder()
    return encoder.encode(fields)


def call(number: int, method: str, how: str) -> bytes:
    """A call on a stream of that number, or a part of one: what clients do."""
    head = frame(HEADERS, END_HEADERS, number, block(request_fields(method)))
    last = frame(DATA, END_STREAM, number, ASKED)
    timed = block(request_fields(method, grpc_timeout="1m"))
    zipped = block(request_fields(method, grpc_encoding="gzip"))
    return {
        "whole": head + last,
        "two messages": head + frame(DATA, 0, number, ASKED) + last,
        "opened": head,
        "half": head + frame(DATA, 0, number, ASKED[:9]),
        "cut": head + frame(DATA, END_STREAM, number, ASKED[:9]),
        "empty": head + frame(DATA, END_STREAM, number),
        "reset": head + reset(number),
        "reset later": head + last + reset(number),
        "timed": frame(HEADERS, END_HEADERS, number, timed) + last,
        "compressed": frame(HEADERS, END_HEADERS, number, zipped)
        + frame(DATA, END_STREAM, number, message(asking(), compressed=True)),
        "pieces": b"".join(pieces(HEADERS, number, block(request_fields(method)), 9, 0)) + last,
        "trailers": head
        + frame(DATA, 0, number, ASKED)
        + frame(HEADERS, END_HEADERS | END_STREAM, number, block([("x-late", "1")])),
        "window": head + window_update(number, 7) + last,
    }[how]


MANNERS = (
    "whole", "two messages", "opened", "half", "cut", "empty", "reset", "reset later", "timed",
    "compressed", "pieces", "trailers", "window",
)  # fmt: skip
calls = st.lists(st.tuples(st.sampled_from(METHODS), st.sampled_from(MANNERS)), max_size=6)
settings_at_first = st.dictionaries(
    st.sampled_from([1, 3, 4, 6, 9]), st.sampled_from([0, 1, 100, 65_535]), max_size=2
).map(settings_frame)
words = st.integers(0, 2**32 - 1) | st.sampled_from([0, 1, 65_535, 2**31 - 1, 2**31])
fields = st.lists(
    st.sampled_from(
        [
            *request_fields(METHODS[0]),
            ("grpc-timeout", "1m"),
            ("grpc-timeout", "x"),
            ("grpc-encoding", "gzip"),
            ("content-length", "3"),
            ("x-bin", "!"),
            ("Upper", "case"),
            (":status", "200"),
            ("connection", "close"),
            ("", ""),
        ]
    ),
    max_size=10,
)
blocks = st.one_of(
    st.sampled_from(METHODS).map(lambda method: block(request_fields(method))),
    fields.map(block),
    st.binary(max_size=40),
)
payloads = st.one_of(
    blocks,
    st.just(ASKED),
    st.sampled_from([ASKED[:7], b"\x01" + ASKED[1:], struct.pack(">BI", 0, 2**32 - 1)]),
    st.binary(max_size=40),
    words.map(lambda word: struct.pack(">I", word)),
    st.builds(lambda pad, rest: bytes([pad]) + rest, st.integers(0, 255), blocks),
    st.builds(lambda number, value: struct.pack(">HI", number, value), st.integers(0, 9), words),
)
numbers = st.integers(0, 13)
flags = st.sampled_from(
    [
        0,
        END_STREAM,
        END_HEADERS,
        END_HEADERS | END_STREAM,
        PADDED,
        END_HEADERS | PADDED,
        END_HEADERS | WITH_PRIORITY,
        0xFF,
    ]
)
frames = st.one_of(
    st.builds(frame, st.integers(0, 10), flags, numbers, payloads),
    st.builds(frame, st.just(HEADERS), flags, numbers, blocks),
    st.builds(
        call, st.sampled_from([9, 11, 13]), st.sampled_from(METHODS), st.sampled_from(MANNERS)
    ),
    st.builds(reset, numbers),
    st.builds(window_update, numbers, words),
    st.builds(ping, st.binary(min_size=8, max_size=8)),
    st.builds(settings_frame, st.dictionaries(st.integers(0, 9), words, max_size=3)),
)


def ends(address: str, sent: bytes) -> bool:
    """Send and read all there is; whether the server has then ended the connection in time."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
        try:
            while connection.recv(65536):
                pass
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True


@examples(200)
@given(settings_at_first, calls, st.lists(frames, max_size=6), mutations)
def test_no_frames_bring_the_port_of_grpc_down(
    server: Server,
    address: str,
    bystander: Connection,
    first: bytes,
    well: list[tuple[str, str]],
    ill: list[bytes],
    changes: Sequence[tuple[float, bytes]],
) -> None:
    logged = server.log_path.stat().st_size
    calls = [call(2 * index + 1, *how) for index, how in enumerate(well)]
    assert ends(address, PREFACE + mutated(b"".join((first, *calls, *ill)), changes))
    assert bystander.call(METHODS[0], asking()).grpc_status == 0
    with server.log_path.open("rb") as log:
        log.seek(logged)
        assert b"Traceback" not in log.read()

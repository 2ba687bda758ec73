"""Clients that are slow, many or without end: they lose their connection, nobody else does."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from runtime_kit import onnx_models
from runtime_kit.process import PROGRAM, Server, send
from runtime_kit.standstill import stopped, wait_until_accepted

SECONDS = 0.5
MOST = 64
FILES = 512
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
EMPTY_SETTINGS = b"\0\0\0\4\0\0\0\0\0"
PROBE = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n"
# Who may exceed the limit of files may have more of them on their way between processes as well.
AS_IN_A_POD = ("setpriv", "--bounding-set=-sys_resource,-sys_admin", "--inh-caps=-all")


@pytest.fixture(scope="module")
def strict_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    extra = {
        "SLIPWAY_HEADER_TIMEOUT_SECONDS": str(SECONDS),
        "SLIPWAY_BODY_TIMEOUT_SECONDS": str(SECONDS),
        "SLIPWAY_MAX_CONNECTIONS": str(MOST),
    }
    folder = tmp_path_factory.mktemp("strict")
    with Server(folder, onnx_models.ones(), extra=extra) as server:
        yield server.start().wait_until_ready()


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def closed_for(server: Server, reason: str) -> int:
    line = rf'^slipway_http_connections_closed_total{{reason="{reason}"}} (\d+)$'
    found = re.search(line, server.get("/metrics").body.decode(), re.MULTILINE)
    assert found
    return int(found[1])


def read_to_end(connection: socket.socket) -> bytes:
    parts = list[bytes]()
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


HEAD = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


@pytest.mark.parametrize(
    ("sent", "awaited", "answer"),
    [
        pytest.param(b"", "headers", b"", id="nothing"),
        pytest.param(b"GET / HT", "headers", b"HTTP/1.1 408 ", id="half a line"),
        pytest.param(HEAD, "headers", b"HTTP/1.1 408 ", id="half a head"),
        pytest.param(
            HEAD + b"content-length: 9\r\n\r\n[1", "body", b"HTTP/1.1 408 ", id="half a body"
        ),
        pytest.param(
            HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\n[1\r\n",
            "body",
            b"HTTP/1.1 408 ",
            id="chunks without an end",
        ),
        pytest.param(
            b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\nGET /ping",
            "headers",
            b"HTTP/1.1 200 ",
            id="next",
        ),
    ],
)
def test_who_does_not_get_on_is_closed(
    strict_server: Server, sent: bytes, awaited: str, answer: bytes
) -> None:
    before = closed_for(strict_server, awaited)
    with connect(strict_server) as connection:
        connection.sendall(sent)
        began = time.monotonic()
        got = read_to_end(connection)
        assert SECONDS * 0.9 <= time.monotonic() - began < 10
    assert got.startswith(answer)
    assert (b'"error"' in got) == (b" 408 " in got)
    assert closed_for(strict_server, awaited) == before + 1


def test_drops_do_not_keep_a_request_alive(strict_server: Server) -> None:
    with connect(strict_server) as connection:
        connection.sendall(HEAD + b"content-length: 100000\r\n\r\n")
        began = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 10:
                connection.sendall(b" ")
                time.sleep(0.02)
        assert time.monotonic() - began < 5


def test_who_takes_no_answer_in_is_cut_off(strict_server: Server) -> None:
    before = closed_for(strict_server, "answer")
    with connect(strict_server) as connection:
        body = b'{"shape": [5000000]}'
        connection.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(body) + body)
        deadline = time.monotonic() + 10
        while closed_for(strict_server, "answer") == before:
            assert time.monotonic() < deadline, strict_server.get("/metrics").body
            time.sleep(0.05)


def test_a_head_without_end_is_refused(strict_server: Server) -> None:
    with connect(strict_server) as connection:
        connection.sendall(b"GET /ping HTTP/1.1\r\n")
        for number in range(1000):
            connection.sendall(b"x-%d: %s\r\n" % (number, b"y" * 1000))
        assert b" 431 " in read_to_end(connection)


def idle(connection: socket.socket) -> None:
    """Send nothing."""


def half_a_body(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"content-length: 9\r\n\r\n[1")


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("then", [idle, half_a_body])
def test_a_flood_of_connections_stops_neither_probes_nor_who_is_being_served(
    tmp_path: Path, then: Callable[[socket.socket], None], workers: int
) -> None:
    """Nothing times out here: those that wait for their client make room.

    Several workers share the number out, and have a supervisor that takes connections in.
    """
    extra = {"SLIPWAY_MAX_CONNECTIONS": str(MOST), "SLIPWAY_WORKERS": str(workers)}
    with Server(tmp_path, onnx_models.identity(), extra=extra) as server:
        server.start().wait_until_ready()
        assert len(server.children()) == (workers if workers > 1 else 0)
        with contextlib.ExitStack() as stack:
            for number in range(6 * MOST):
                connection = stack.enter_context(connect(server))
                with contextlib.suppress(OSError):
                    then(connection)
                if number % 16 == 0:
                    probe = server.connect(timeout=5)
                    assert send(probe, "GET", "/v2/health/live").status == 200
                    assert send(probe, "GET", "/v2/health/ready").status == 200
                    probe.close()
            assert server.post("/predict", {"x": [[1, 2]]}).json == {"y": [[1, 2]]}
            assert closed_for(server, "room") > 4 * MOST


def test_more_connections_than_may_be_on_their_way_to_workers_wait_for_them(tmp_path: Path) -> None:
    """The kernel lets no more files be between two processes than a process may have open."""
    ordinary = AS_IN_A_POD if os.geteuid() == 0 else ()
    program = (*ordinary, "prlimit", f"--nofile={FILES}", PROGRAM)
    extra = {"SLIPWAY_WORKERS": "2"}
    with (
        Server(tmp_path, onnx_models.identity(), extra=extra, program=program) as server,
        contextlib.ExitStack() as stack,
    ):
        server.start().wait_until_ready()
        workers = server.children()
        assert len(workers) == 2
        with stopped(workers):
            kept = [stack.enter_context(connect(server)) for _ in range(FILES + 100)]
            wait_until_accepted(server)
        for connection in kept:
            connection.sendall(PROBE)
        for connection in kept:
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert server.children() == workers


def test_both_ports_may_be_full_where_few_files_may_be_open(tmp_path: Path) -> None:
    program = ("prlimit", "--nofile=300", PROGRAM)
    extra = {"SLIPWAY_GRPC_PORT": "0"}
    with (
        Server(tmp_path, onnx_models.identity(), extra=extra, program=program) as server,
        contextlib.ExitStack() as stack,
    ):
        server.start().wait_until_ready()
        grpc = ("127.0.0.1", int(server.grpc_address.rpartition(":")[2]))
        for _ in range(300):
            stack.enter_context(connect(server))
            stack.enter_context(socket.create_connection(grpc, timeout=10))
        with connect(server) as probe, socket.create_connection(grpc, timeout=10) as call:
            probe.sendall(PROBE)
            assert probe.recv(65536).startswith(b"HTTP/1.1 200 ")
            call.sendall(PREFACE + EMPTY_SETTINGS)
            assert call.recv(65536)
        assert closed_for(server, "room") > 300


@pytest.mark.parametrize("idle", range(4))
def test_who_has_asked_is_answered_before_others_get_its_room(tmp_path: Path, idle: int) -> None:
    """Twice as many come at once as the workers may have; all have sent their request by then.

    Which of those that a turn of the loop takes in is one too many depends on who was there before.
    """
    extra = {"SLIPWAY_WORKERS": "2", "SLIPWAY_MAX_CONNECTIONS": str(MOST)}
    with (
        Server(tmp_path, onnx_models.identity(), extra=extra) as server,
        contextlib.ExitStack() as stack,
    ):
        server.start().wait_until_ready()
        for _ in range(idle):
            connection = stack.enter_context(connect(server))
            connection.sendall(PROBE)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        with stopped(server.children()):
            kept = [stack.enter_context(connect(server)) for _ in range(2 * MOST)]
            for connection in kept:
                connection.sendall(PROBE)
            wait_until_accepted(server)
        for connection in kept:
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_who_takes_in_an_answer_loses_nothing_to_who_gets_the_room_of_the_idle(
    tmp_path: Path,
) -> None:
    extra = {"SLIPWAY_MAX_CONNECTIONS": str(MOST)}
    with (
        Server(tmp_path, onnx_models.ones(), extra=extra) as server,
        contextlib.ExitStack() as stack,
    ):
        server.start().wait_until_ready()
        # The longest here, so that it would be the first to go.
        taker = stack.enter_context(connect(server))
        body = b'{"shape": [5000000]}'
        taker.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(body) + body)
        head = taker.recv(12)
        for _ in range(MOST):
            connection = stack.enter_context(connect(server))
            connection.sendall(PROBE)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert closed_for(server, "room") > 0
        # With this one nothing more is asked, and the connection ends once all has left.
        taker.sendall(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = head + read_to_end(taker)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.count(b"1.0") == 5_000_000


def test_a_body_that_is_too_slow_is_one_request_with_one_status(strict_server: Server) -> None:
    def statuses() -> dict[str, int]:
        page = strict_server.get("/metrics").body.decode()
        line = r'^slipway_http_responses_total{code="(\d+)"} (\d+)$'
        return {code: int(n) for code, n in re.findall(line, page, re.MULTILINE)}

    before, closed = statuses(), closed_for(strict_server, "body")
    with connect(strict_server) as slow:
        slow.sendall(b"POST /predict HTTP/1.1\r\nhost: m\r\ncontent-length: 100\r\n\r\n{")
        assert b" 408 " in read_to_end(slow)
        time.sleep(4)  # Of the watch; the connection lingers meanwhile.
    after = statuses()
    assert after.get("408", 0) - before.get("408", 0) == 1
    assert after.get("499", 0) == before.get("499", 0)
    assert closed_for(strict_server, "body") - closed == 1

"""HTTP/1.1 as bytes: what a connection carries, in which order, and when it ends."""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime_kit import onnx_models
from runtime_kit.fuzzing import examples, mutated, mutations
from runtime_kit.process import Server

ROW = b"[1,2,3,4]"
ANSWER = b'{"y":[41.0,51.0]}'
HEAD = b"POST /predict HTTP/1.1\r\nhost: x\r\n"


def post(body: bytes = ROW, *headers: bytes, version: bytes = b"1.1") -> bytes:
    head = b"POST /predict HTTP/" + version + b"\r\nhost: x\r\n"
    lines = b"".join(header + b"\r\n" for header in headers)
    return head + lines + b"content-length: %d\r\n\r\n" % len(body) + body


GET = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n"


class Reply(NamedTuple):
    status: int
    body: bytes
    headers: dict[str, str]


@contextlib.contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        yield connection


def until_closed(connection: socket.socket) -> bytes:
    parts: list[bytes] = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


class _Source(NamedTuple):
    """What http.client wants of a socket."""

    stream: io.BytesIO

    def makefile(self, *_: Any) -> io.BytesIO:
        return self.stream


def replies(data: bytes, method: str = "POST") -> list[Reply]:
    """Read all answers of a connection that has ended, by the standard library's client."""
    stream = io.BytesIO(data)
    stream.close = lambda: None  # type: ignore[method-assign]
    found: list[Reply] = []
    while stream.tell() < len(data):
        response = http.client.HTTPResponse(_Source(stream), method=method)  # type: ignore[arg-type]
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        found.append(Reply(response.status, response.read(), headers))
    return found


def exchange(server: Server, *sent: bytes, method: str = "POST") -> list[Reply]:
    """Send the parts one after another, the last of which asks for the end."""
    with connected(server) as connection:
        for part in sent:
            connection.sendall(part)
        return replies(until_closed(connection), method)


LAST = post(ROW, b"connection: close")


def test_requests_that_are_sent_ahead_are_answered_in_their_order(linear_server: Server) -> None:
    rows = [b"[%d,0,0,0]" % number for number in range(50)]
    answers = exchange(linear_server, b"".join(map(post, rows)) + LAST)
    assert [reply.status for reply in answers] == [200] * 51
    assert [reply.body for reply in answers[1:3]] == [b'{"y":[1.0,2.0]}', b'{"y":[1.0,3.0]}']
    assert answers[-1].body == ANSWER


@pytest.mark.parametrize("size", [1, 7, 64])
def test_requests_may_arrive_in_pieces_of_any_size(linear_server: Server, size: int) -> None:
    data = post() + GET + LAST
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    assert [reply.status for reply in exchange(linear_server, *pieces)] == [200, 200, 200]


@pytest.mark.parametrize(
    ("version", "header", "kept"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"connection: close", False),
        (b"1.0", b"", False),
        (b"1.0", b"connection: keep-alive", False),
    ],
)
def test_a_connection_is_kept_as_its_client_asks(
    linear_server: Server, version: bytes, header: bytes, kept: bool
) -> None:
    headers = [header] if header else []
    answers = exchange(linear_server, post(ROW, *headers, version=version) + LAST)
    assert len(answers) == (2 if kept else 1)
    assert (answers[0].headers.get("connection") == "close") is not kept


def test_a_chunked_body_may_have_trailers(linear_server: Server) -> None:
    head = HEAD + b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    (reply,) = exchange(
        linear_server, head, b"4\r\n[1,2\r\n", b"5\r\n,3,4]\r\n0\r\nx-request-id: late\r\n\r\n"
    )
    assert (reply.status, reply.body) == (200, ANSWER)
    assert reply.headers["x-request-id"] != "late"


def test_who_waits_for_100_continue_gets_it_before_the_body(linear_server: Server) -> None:
    with connected(linear_server) as connection:
        connection.sendall(post(ROW, b"expect: 100-continue", b"connection: close")[: -len(ROW)])
        interim = connection.recv(1000)
        assert interim == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(ROW)
        (reply,) = replies(until_closed(connection))
        assert reply.body == ANSWER


def test_who_waits_for_100_continue_with_too_much_gets_413_at_once(linear_server: Server) -> None:
    head = HEAD + b"expect: 100-continue\r\ncontent-length: 1000000000\r\n\r\n"
    (reply,) = exchange(linear_server, head)
    assert (reply.status, reply.headers["connection"]) == (413, "close")


def test_a_tunnel_is_refused(linear_server: Server) -> None:
    (reply,) = exchange(linear_server, b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (reply.status, reply.headers["connection"]) == (405, "close")


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
def test_an_upgrade_that_is_not_offered_is_answered_in_http_1(
    linear_server: Server, protocol: bytes
) -> None:
    upgrade = post(ROW, b"connection: upgrade", b"upgrade: " + protocol)
    answers = exchange(linear_server, upgrade + LAST)
    assert [(reply.status, reply.body) for reply in answers] == [(200, ANSWER)] * 2


def test_many_upgrades_sent_ahead_are_answered_like_any_others(linear_server: Server) -> None:
    asking = GET[:-2] + b"connection: upgrade\r\nupgrade: x\r\n\r\n"
    answers = exchange(linear_server, asking * 3000 + LAST)
    assert [reply.status for reply in answers] == [200] * 3001


def test_half_a_request_behind_another_that_breaks_off_does_not_hold_the_connection(
    linear_server: Server,
) -> None:
    broken = HEAD + b"transfer-encoding: chunked\r\n\r\nxyz\r\n"
    reply, *refusal = exchange(linear_server, post() + broken)
    assert (reply.status, reply.body) == (200, ANSWER)
    # It is told, too, if the other was answered by the time that it broke off.
    assert [answer.status for answer in refusal] in ([], [400])


def test_a_body_that_nobody_reads_does_not_end_a_connection(linear_server: Server) -> None:
    unread = b"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n"
    with connected(linear_server) as connection:
        connection.sendall(unread)
        assert connection.recv(12) == b"HTTP/1.1 404"
        connection.sendall(b"x" * 100_000 + LAST)
        assert until_closed(connection).endswith(ANSWER)


def test_an_answer_reaches_who_still_sends(linear_server: Server) -> None:
    size = 50_000_000
    with connected(linear_server) as connection:
        connection.sendall(HEAD + b"content-length: %d\r\n\r\n" % size)
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                connection.sendall(b" " * 50_000)
        (reply,) = replies(until_closed(connection))
        assert (reply.status, reply.headers["connection"]) == (413, "close")


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        HEAD + b"content-length: 3\r\ncontent-length: 4\r\n\r\n[1]",
        HEAD + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n[1]",
        HEAD + b"transfer-encoding: chunked\r\n\r\nxyz\r\n",
        HEAD + b"content-length: +3\r\n\r\n[1]",
        HEAD + b"name : value\r\n\r\n",
        HEAD + b"a: b\r\n c: folded\r\n\r\n",
    ],
)
def test_what_is_no_http_is_400_and_the_end(linear_server: Server, data: bytes) -> None:
    (reply,) = exchange(linear_server, data)
    assert (reply.status, reply.headers["connection"]) == (400, "close")
    assert b"this is not HTTP/1.1" in reply.body


@pytest.mark.parametrize(
    ("hosts", "version", "status"),
    [
        (b"", b"1.1", 400),
        (b"", b"1.0", 200),
        (b"host: a\r\nhost: a\r\n", b"1.1", 400),
        (b"host: a\r\nhost: b\r\n", b"1.0", 400),
        (b"host:\r\n", b"1.1", 200),
    ],
)
def test_a_request_is_for_one_host(
    linear_server: Server, hosts: bytes, version: bytes, status: int
) -> None:
    lines = hosts + b"connection: close\r\n\r\n"
    (reply,) = exchange(linear_server, b"GET /v2/health/live HTTP/" + version + b"\r\n" + lines)
    assert reply.status == status
    assert (b"one header Host" in reply.body) == (status == 400)


@pytest.mark.parametrize(
    ("codings", "status"),
    [
        (b"transfer-encoding: chunked\r\n", 200),
        (b"Transfer-Encoding:  Chunked \r\n", 200),
        (b"transfer-encoding: gzip, chunked\r\n", 501),
        (b"transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n", 501),
    ],
)
def test_a_body_has_no_transfer_coding_but_chunks(
    linear_server: Server, codings: bytes, status: int
) -> None:
    body = b"9\r\n[1,2,3,4]\r\n0\r\n\r\n"
    (reply,) = exchange(linear_server, HEAD + codings + b"connection: close\r\n\r\n" + body)
    assert reply.status == status, reply.body


def test_nothing_behind_a_request_for_no_host_is_answered(linear_server: Server) -> None:
    answers = exchange(linear_server, GET + b"GET /ping HTTP/1.1\r\n\r\n" + GET)
    assert [reply.status for reply in answers] == [200, 400]


def test_what_came_before_nonsense_is_still_answered(linear_server: Server) -> None:
    answers = exchange(linear_server, post() + b"nonsense\r\n\r\n")
    assert answers[0].body == ANSWER


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"/v2/health/live?a=b", 200),
        (b"http://elsewhere/v2/health/live", 200),
        (b"/v2/health%2Flive", 200),
        (b"/v2/health/%ff", 404),
        (b"*", 404),
    ],
)
def test_a_target_has_several_forms(linear_server: Server, target: bytes, status: int) -> None:
    request = b"GET " + target + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    (reply,) = exchange(linear_server, request)
    assert reply.status == status


def test_every_answer_is_dated(linear_server: Server) -> None:
    (reply,) = exchange(linear_server, LAST)
    date = time.mktime(time.strptime(reply.headers["date"], "%a, %d %b %Y %H:%M:%S GMT"))
    assert abs(date - time.mktime(time.gmtime())) < 5


def test_an_idle_connection_is_closed(tmp_path: Any) -> None:
    extra = {"SLIPWAY_KEEP_ALIVE_SECONDS": "1"}
    with Server(tmp_path, onnx_models.linear(), extra=extra) as server:
        server.start().wait_until_ready()
        with connected(server) as connection:
            connection.sendall(post())
            (reply,) = replies(until_closed(connection))
            assert reply.status == 200


@pytest.fixture
def impatient_server(tmp_path: Path) -> Iterator[Server]:
    """Waits for a client for a second."""
    extra = {"SLIPWAY_BODY_TIMEOUT_SECONDS": "1"}
    with Server(tmp_path, onnx_models.linear(), extra=extra) as server:
        yield server.start().wait_until_ready()


METRICS = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"


def memory_of(server: Server) -> float:
    """Its resident memory in MiB."""
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_who_reads_no_answer_gets_no_further_ones_until_it_does(linear_server: Server) -> None:
    """Some thousand answers of 8 kB and more a second, none of which are read."""
    many = 8_000
    before = memory_of(linear_server)
    with connected(linear_server) as connection:
        connection.sendall(GET)
        sending = threading.Thread(target=connection.sendall, args=(METRICS * many,))
        sending.start()
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            assert memory_of(linear_server) - before < 20
            time.sleep(0.1)
        answered = seen = 0
        rest = b""
        while answered < many + 1:
            data = rest + connection.recv(1 << 20)
            seen += len(data) - len(rest)
            answered += data.count(b"HTTP/1.1 200 OK\r\n")
            rest = data[-16:]
        sending.join()
    assert answered == many + 1
    assert seen > 40 * 2**20


def test_who_asks_on_and_reads_no_answer_is_cut_off(impatient_server: Server) -> None:
    with connected(impatient_server) as connection:
        connection.settimeout(0.1)

        def ask_on() -> None:
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                with contextlib.suppress(TimeoutError):
                    connection.sendall(METRICS * 50)
                time.sleep(0.1)

        with pytest.raises(ConnectionError):
            ask_on()


def test_uploads_that_follow_each_other_have_their_time_each(impatient_server: Server) -> None:
    """Together they take much longer than one may; whenever one looks, one is under way."""
    with connected(impatient_server) as connection:
        answers = connection.makefile("rb")
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            request = post(ROW.ljust(3000))
            for start in range(0, len(request), 100):
                connection.sendall(request[start : start + 100])
                time.sleep(0.01)
            assert answers.readline() == b"HTTP/1.1 200 OK\r\n"
            while answers.readline() != b"\r\n":
                pass
            assert answers.read(len(ANSWER)) == ANSWER


@pytest.mark.parametrize("size", [60_000, 70_000])
@pytest.mark.parametrize("pieces", [1, 2])
@pytest.mark.parametrize("where", [b"?%s HTTP/1.1\r\n", b" HTTP/1.1\r\nx: %s\r\n"])
def test_a_head_is_too_long_in_however_many_pieces_it_comes(
    linear_server: Server, where: bytes, pieces: int, size: int
) -> None:
    request = b"GET /ping" + where % (b"a" * size) + b"host: x\r\n\r\n"
    with connected(linear_server) as connection:
        for start in range(0, len(request), step := -(-len(request) // pieces)):
            connection.sendall(request[start : start + step])
            time.sleep(0.05)
        connection.shutdown(socket.SHUT_WR)
        (reply,) = replies(until_closed(connection))
    assert reply.status == (200 if size == 60_000 else 431)


@pytest.mark.parametrize("begin", [b"5;name=", b"9\r\n[1,2,3,4]\r\n0\r\nx: "])
def test_chunk_extensions_and_trailers_without_end_are_431(
    linear_server: Server, begin: bytes
) -> None:
    with connected(linear_server) as connection:
        connection.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n" + begin)
        with contextlib.suppress(ConnectionError):
            for _ in range(20):
                connection.sendall(b"a" * 10_000)
                time.sleep(0.01)
        (reply,) = replies(until_closed(connection))
    assert reply.status == 431
    assert b"trailers" in reply.body


def test_many_requests_before_nonsense_are_all_answered(linear_server: Server) -> None:
    answers = exchange(linear_server, GET * 40 + b"\0nonsense\r\n\r\n", method="GET")
    assert [reply.status for reply in answers[:40]] == [200] * 40


def test_the_rest_of_an_answered_body_does_not_hold_up_the_end(tmp_path: Path) -> None:
    extra = {"SLIPWAY_DRAIN_TIMEOUT_SECONDS": "20"}
    with Server(tmp_path, onnx_models.linear(), extra=extra) as server:
        server.start().wait_until_ready()
        with connected(server) as connection:
            connection.sendall(b"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 20\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 404")
            began = time.monotonic()
            server.terminate()
            time.sleep(1)  # The connection is not idle: its request is not here as a whole.
            connection.sendall(b"x" * 20)
            assert until_closed(connection) == b""
        assert server.wait_for_end(30).code == 0
        assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("version", "connection_header"), [(b"1.1", b"close, Upgrade"), (b"1.0", b"Upgrade")]
)
def test_who_wants_an_upgrade_or_else_the_end_gets_the_end(
    linear_server: Server, version: bytes, connection_header: bytes
) -> None:
    request = post(ROW, b"connection: " + connection_header, b"upgrade: h2c", version=version)
    (reply,) = exchange(linear_server, request)
    assert reply.body == ANSWER


requests = st.lists(st.sampled_from([post(), GET, post(b"[1]"), post(b"{")]), min_size=1)


@examples(200)
@given(requests, mutations)
def test_no_bytes_bring_the_server_down(
    linear_server: Server, parts: list[bytes], changes: Sequence[tuple[float, bytes]]
) -> None:
    with connected(linear_server) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(mutated(b"".join(parts), changes))
            connection.shutdown(socket.SHUT_WR)
        answered = until_closed(connection)
    assert b"HTTP/1.1 5" not in answered
    assert linear_server.get("/v2/health/live").status == 200

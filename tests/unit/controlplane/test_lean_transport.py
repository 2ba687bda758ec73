"""What the client of the Lease sends and understands, over real connections."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from kubernetes.aio.client import Configuration

from slipway_operator.reconcile.kinds import LEASE
from slipway_operator.reconcile.kube import ApiError, KubeClient, NotLeaderError, TransportError
from slipway_operator.reconcile.lean_transport import connect_lean

OBJ: dict[str, Any] = {"metadata": {"name": "slipway", "namespace": "ours", "resourceVersion": "7"}}
WITH_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Server:
    """Notes the requests of each connection, and answers each of them with the same bytes."""

    def __init__(self, answer: bytes, *, closes: bool = False) -> None:
        self.answer = answer
        self.closes = closes
        self.silent = False
        self.asked = asyncio.Event()
        self.closed = asyncio.Event()
        self.requests: list[list[bytes]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mine: list[bytes] = []
        self.requests.append(mine)
        while request := await reader.read(65536):
            mine.append(request)
            self.asked.set()
            if self.silent:
                continue
            writer.write(self.answer)
            if self.closes:
                break
        writer.close()
        await writer.wait_closed()
        self.closed.set()


@asynccontextmanager
async def client_of(
    server: Server,
    configure: Callable[[str], Configuration] = lambda url: Configuration(host=url),
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[KubeClient]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    port = listening.sockets[0].getsockname()[1]
    client = connect_lean(configure(f"http{'s' if tls else ''}://127.0.0.1:{port}"))
    try:
        yield client
    finally:
        await client.close()
        listening.close()


@pytest.mark.parametrize(
    "answer",
    [
        WITH_LENGTH + b'{"a":1}',
        CHUNKED + b'3\r\n{"a\r\n4;x=y\r\n":1}\r\n0\r\n\r\n',
        CHUNKED + b'7\r\n{"a":1}\r\n0\r\nTrailer: what follows\r\n\r\n',
    ],
    ids=["length", "chunks", "chunks and a trailer"],
)
async def test_an_answer_that_was_read_to_its_end_leaves_its_connection_for_the_next(answer):
    server = Server(answer)
    async with client_of(server) as client:
        for _ in range(3):
            assert await client.replace(LEASE, OBJ) == {"a": 1}
    assert [len(requests) for requests in server.requests] == [3]


@pytest.mark.parametrize(
    ("answer", "closes"),
    [
        (b'HTTP/1.1 200 OK\r\n\r\n{"a":1}', True),
        (WITH_LENGTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + b'{"a":1}', False),
    ],
    ids=["it ends with its connection", "its connection is to be closed"],
)
async def test_any_other_answer_takes_its_connection_with_it(answer, closes):
    server = Server(answer, closes=closes)
    async with client_of(server) as client:
        for _ in range(2):
            assert await client.replace(LEASE, OBJ) == {"a": 1}
    assert [len(requests) for requests in server.requests] == [1, 1]


async def test_a_connection_that_was_closed_meanwhile_is_not_asked():
    server = Server(WITH_LENGTH + b'{"a":1}', closes=True)
    async with client_of(server) as client:
        assert await client.replace(LEASE, OBJ) == {"a": 1}
        await server.closed.wait()
        for _ in range(3):  # turns of the loop, in which the client hears of it
            await asyncio.sleep(0)
        assert await client.replace(LEASE, OBJ) == {"a": 1}
    assert len(server.requests) == 2


async def test_a_request_that_is_given_up_takes_its_connection_with_it():
    server = Server(WITH_LENGTH + b'{"a":1}')
    async with client_of(server) as client:
        await client.replace(LEASE, OBJ)
        server.silent = True
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.replace(LEASE, OBJ)
        server.silent = False
        assert await client.replace(LEASE, OBJ) == {"a": 1}
    assert [len(requests) for requests in server.requests] == [2, 1]


async def test_a_request_does_not_wait_for_one_that_hangs():
    server = Server(WITH_LENGTH + b'{"a":1}')
    async with client_of(server) as client:
        server.silent = True
        hangs = asyncio.create_task(client.replace(LEASE, OBJ))
        await server.asked.wait()
        server.silent = False
        assert await client.replace(LEASE, OBJ) == {"a": 1}
        hangs.cancel()
        await asyncio.gather(hangs, return_exceptions=True)


@pytest.mark.parametrize(
    ("answer", "closes"),
    [
        (b"", True),
        (WITH_LENGTH, True),
        (CHUNKED + b"7\r\n{", True),
        (CHUNKED + b"seven\r\n", False),
        (b"220 mail.example.com ESMTP\r\n\r\n", True),
        (b"SSH-2.0\r\n\r\n", False),
        (b"x" * 70_000, False),
    ],
    ids=["nothing", "no body", "half a chunk", "no number", "mail", "ssh", "no end"],
)
async def test_what_is_no_whole_answer_is_an_error_of_transport(answer, closes):
    server = Server(answer, closes=closes)
    async with client_of(server) as client:
        with pytest.raises((TransportError, ApiError)):
            await client.replace(LEASE, OBJ)


async def test_a_server_that_is_not_there_is_an_error_of_transport():
    client = connect_lean(Configuration(host="http://127.0.0.1:1"))
    with pytest.raises(TransportError):
        await client.replace(LEASE, OBJ)
    await client.close()


async def test_a_refusal_is_told_with_its_status():
    server = Server(b'HTTP/1.1 409 Conflict\r\nContent-Length: 21\r\n\r\n{"reason":"Conflict"}')
    async with client_of(server) as client:
        with pytest.raises(ApiError) as refused:
            await client.replace(LEASE, OBJ)
    assert refused.value.status == 409


async def test_a_write_is_held_back_when_leadership_ends_before_it_leaves():
    server = Server(WITH_LENGTH + b'{"a":1}')
    led = iter([True, False])
    async with client_of(server) as client:
        with pytest.raises(NotLeaderError):
            await client.guarded(lambda: next(led)).replace(LEASE, OBJ)
    assert not any(server.requests)


async def test_the_request_has_its_credential_its_length_and_the_path_before_all_paths():
    def configure(url: str) -> Configuration:
        keys = {"BearerToken": "a-token"}
        return Configuration(f"{url}/clusters/c", keys, {"BearerToken": "Bearer"})

    server = Server(WITH_LENGTH + b'{"a":1}')
    async with client_of(server, configure) as client:
        await client.replace(LEASE, OBJ)
    ((request,),) = server.requests
    head, _, body = request.decode().partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines)
    assert first.startswith(
        "PUT /clusters/c/apis/coordination.k8s.io/v1/namespaces/ours/leases/slipway?fieldManager="
    )
    assert fields["Authorization"] == "Bearer a-token"
    assert fields["Host"].startswith("127.0.0.1:")
    assert int(fields["Content-Length"]) == len(body)
    assert '"resourceVersion":"7"' in body


@pytest.mark.parametrize("trusted", [True, False])
async def test_the_server_is_asked_only_when_its_certificate_is_trusted(
    trusted: bool, tmp_path: Path
):
    authority, other = trustme.CA(), trustme.CA()
    bundle = tmp_path / "ca.crt"
    (authority if trusted else other).cert_pem.write_to_path(bundle)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = Server(WITH_LENGTH + b'{"a":1}')

    def configure(url: str) -> Configuration:
        return Configuration(host=url, ssl_ca_cert=str(bundle))

    async with client_of(server, configure, context) as client:
        if trusted:
            assert await client.replace(LEASE, OBJ) == {"a": 1}
        else:
            with pytest.raises(TransportError, match="certificate verify failed"):
                await client.replace(LEASE, OBJ)
    assert bool(server.requests) is trusted


async def test_a_proxy_is_asked_where_there_is_one():
    def configure(url: str) -> Configuration:
        configuration = Configuration(host="http://api.invalid")
        configuration.proxy = url
        return configuration

    server = Server(WITH_LENGTH + b'{"a":1}')
    async with client_of(server, configure) as client:
        assert await client.replace(LEASE, OBJ) == {"a": 1}
    assert server.requests[0][0].startswith(b"PUT http://api.invalid/apis/")

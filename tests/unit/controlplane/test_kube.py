"""What the client of the API server sends, and what it holds back, over real connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from kubernetes.aio.client import Configuration

from slipway_operator.reconcile.clock import ServerClock
from slipway_operator.reconcile.kinds import CONTROLLER_REVISION
from slipway_operator.reconcile.kube import KubeClient, NotLeaderError, connect

REVISION: dict[str, Any] = {"metadata": {"name": "fraud-1", "namespace": "payments"}}
ANSWER = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}"


class Server:
    """Notes all bytes that arrive, and answers each piece of them."""

    def __init__(self) -> None:
        self.connections = 0
        self.received = b""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while piece := await reader.read(65536):
            self.received += piece
            writer.write(ANSWER)
        writer.close()


@asynccontextmanager
async def client_of(
    server: Server,
) -> AsyncIterator[KubeClient]:
    listening = await asyncio.start_server(server.answer, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    client = connect(Configuration(host=f"http://127.0.0.1:{port}"), ServerClock())
    try:
        yield client
    finally:
        await client.close()
        listening.close()


def answers(*said: bool) -> Iterable[bool]:
    yield from said


@pytest.mark.parametrize("warm", [False, True], ids=["a new connection", "a kept connection"])
async def test_a_write_is_held_back_whole_when_leadership_ends_while_it_waits_to_be_sent(warm):
    server = Server()
    async with client_of(server) as client:
        if warm:
            await client.guarded(lambda: True).create(CONTROLLER_REVISION, REVISION)
        before = server.received
        led = answers(True, False)  # when it is asked for, and no more when it would leave
        with pytest.raises(NotLeaderError):
            await client.guarded(lambda: next(led)).create(CONTROLLER_REVISION, REVISION)
        # What went out would have arrived before what goes out now.
        await client.guarded(lambda: True).delete(CONTROLLER_REVISION, "payments", "other", None)
        assert server.connections > 0
        assert b"POST" not in server.received[len(before) :]
        assert server.received[len(before) :].startswith(b"DELETE ")


async def test_a_leader_that_stays_one_sends_each_write_once():
    server = Server()
    async with client_of(server) as client:
        await client.guarded(lambda: True).create(CONTROLLER_REVISION, REVISION)
    assert server.received.count(b"POST ") == 1
    assert server.received.endswith(b'{"metadata":{"name":"fraud-1","namespace":"payments"}}')


async def test_what_is_created_may_have_no_field_that_the_kind_has_not():
    server = Server()
    async with client_of(server) as client:
        await client.guarded(lambda: True).create(CONTROLLER_REVISION, REVISION)
    assert b"fieldValidation=Strict" in server.received.split(b" ")[1]

"""A worker: one process of a supervisor's crew, with the model loaded.

Connections come through the channel, already accepted. The supervisor alone hears signals, and says
when all are ready, when to drain and when to stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import signal
import socket
from typing import TYPE_CHECKING, Final

import uvloop

from slipway_runtime import termination
from slipway_runtime.artifact.digest import Digest
from slipway_runtime.errors import Failure, NotReady
from slipway_runtime.server.channel import GRPC, NUMBER_BYTES, SECURE, Channel, Kind
from slipway_runtime.server.instance import Instance
from slipway_runtime.settings import ServeSettings

if TYPE_CHECKING:
    from slipway_runtime.server.routes import ModelRoutes

_PATIENCE_SECONDS: Final = 5.0
# Few: in a flood those that have not sent a request make room first, and what a new connection has
# sent already should be read before others come.
_MESSAGES_A_TURN: Final = 2

logger = logging.getLogger(__name__)


def work(name: str, digest: Digest, settings: ServeSettings, descriptor: int) -> None:
    """Serve what comes through the channel of that file descriptor until it is asked to stop.

    Raises:
        Failure: the model cannot be served; the supervisor has been told.
    """
    end = socket.socket(fileno=descriptor)
    # A terminal sends its signals to the whole group.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_Worker(name, digest, settings).run(end))


class _Worker:
    def __init__(self, name: str, digest: Digest, settings: ServeSettings) -> None:
        self._name = name
        self._digest = digest
        self._settings = settings
        self._routes: ModelRoutes | None = None
        self._stop = asyncio.Event()
        self._seconds_to_stop = settings.drain_timeout
        self._numbers = itertools.count()
        self._awaited: dict[bytes, asyncio.Future[bytes]] = {}
        self._channel: Channel
        self._instance: Instance

    async def run(self, end: socket.socket) -> None:
        self._channel = Channel(end, self._received, self._stop.set, _MESSAGES_A_TURN)
        try:
            await self._serve()
        except Failure as failure:
            self._channel.send(Kind.FAILED, termination.encode(failure))
            raise

    async def _serve(self) -> None:
        instance = self._instance = Instance(
            self._name,
            self._digest,
            self._settings,
            on_closed=lambda: self._channel.send(Kind.CLOSED),
            gather=self._gather,
        )
        await instance.start_tracing()
        loading = instance.load()
        if self._settings.grpc_port is not None:
            await instance.start_grpc()
        self._channel.send(Kind.UP)
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({stopping, loading}, return_when=asyncio.FIRST_COMPLETED)
        if not loading.done():
            return
        self._routes = loading.result()
        warm = {"run_seconds": self._routes.run_seconds}
        self._channel.send(Kind.WARM, json.dumps(warm).encode())
        await stopping
        await instance.stop(self._seconds_to_stop)

    def _received(self, kind: Kind, content: bytes, connection: socket.socket | None) -> None:
        match kind:
            case Kind.CONNECTION if connection is not None:
                instance = self._instance
                ports = {SECURE: instance.secure, GRPC: instance.rpc}
                (ports.get(content) or instance.plain).take(connection)
            case Kind.READY if self._routes is not None:
                self._instance.install(self._routes)
            case Kind.DRAIN:
                self._instance.drain()
            case Kind.STOP:
                self._seconds_to_stop = json.loads(content)
                self._stop.set()
            case Kind.ASK:
                number, what = content[:NUMBER_BYTES], content[NUMBER_BYTES:].decode()
                self._channel.send(Kind.ANSWER, number + self._instance.told(what))
            case Kind.TOTAL:
                future = self._awaited.pop(content[:NUMBER_BYTES], None)
                if future is not None and not future.done():
                    future.set_result(content[NUMBER_BYTES:])
            case _:
                logger.warning("a message that is not for workers: %s", kind.name)

    async def _gather(self, what: str) -> bytes:
        """Return the sum of what all workers tell.

        Raises:
            NotReady: the supervisor does not answer.
        """
        number = next(self._numbers).to_bytes(NUMBER_BYTES, "big")
        future = self._awaited[number] = asyncio.get_running_loop().create_future()
        self._channel.send(Kind.GATHER, number + what.encode())
        # In a task: handlers are in none (see `eager`), and what waits with a limit asks for it.
        waiting = asyncio.create_task(asyncio.wait_for(future, _PATIENCE_SECONDS))
        with contextlib.suppress(TimeoutError):
            return await waiting
        self._awaited.pop(number, None)
        raise NotReady("the other workers do not answer")

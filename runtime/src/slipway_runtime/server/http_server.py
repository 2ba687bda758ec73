"""The HTTP server: takes connections in on a socket, and ends without losing a request."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Final

from slipway_runtime.server.connection import Answer, Connection
from slipway_runtime.server.connections import Connections
from slipway_runtime.server.listener import BACKLOG, refuse_new_connections

if TYPE_CHECKING:
    from slipway_runtime.metrics import Metrics
    from slipway_runtime.settings import ServeSettings

_LAST_MOMENT_SECONDS: Final = 0.25


class HttpServer:
    """Answers what comes to one listening socket with ``answer``."""

    def __init__(self, answer: Answer, settings: ServeSettings, metrics: Metrics) -> None:
        self._answer = answer
        self._connections = Connections(settings, metrics)
        self._listener: socket.socket
        self._server: asyncio.Server
        self._watch: asyncio.Task[None]

    async def start(self, listener: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Begin."""
        loop = asyncio.get_running_loop()
        self._listener = listener
        self._server = await loop.create_server(
            lambda: Connection(self._answer, self._connections),
            sock=listener,
            backlog=BACKLOG,
            ssl=tls,
        )
        self._watch = loop.create_task(self._connections.watch())

    async def stop(self, seconds: float) -> None:
        """Take no more connections, answer what has arrived, for so many seconds at most.

        A connection whose request is in the socket's buffer but not yet read looks idle, and its
        request would be lost; so there is a moment for it between the two.
        """
        refuse_new_connections(self._listener)
        await asyncio.sleep(_LAST_MOMENT_SECONDS)
        self._server.close()
        await self._connections.finish(seconds)
        self._watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._watch

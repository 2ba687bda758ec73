"""An HTTP server, 1.1 or 2: takes connections in, and ends without losing a request.

They come from a listening socket, or from a process that has accepted them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from slipway_runtime.server.connections import Connections, Handshake
from slipway_runtime.server.listener import BACKLOG, Acceptor, refuse_new_connections

if TYPE_CHECKING:
    from slipway_runtime.metrics import Metrics
    from slipway_runtime.settings import ServeSettings

Make = Callable[[Connections, Handshake | None], asyncio.Protocol]

LAST_MOMENT_SECONDS: Final = 0.25
_NO_END_SECONDS: Final = 24 * 3600.0

logger = logging.getLogger(__name__)


class HttpServer:
    """Has each connection looked after by what ``make`` makes, over TLS where ``tls`` is given,
    which returns the context for the next connection.

    ``on_closed`` hears of each connection that has ended.
    """

    def __init__(
        self,
        make: Make,
        settings: ServeSettings,
        metrics: Metrics,
        tls: Callable[[], ssl.SSLContext] | None = None,
        on_closed: Callable[[], object] | None = None,
    ) -> None:
        self._make = make
        self._tls = tls
        self.connections = Connections(settings, metrics)
        if on_closed is not None:
            self.connections.on_closed = on_closed
        self._beginning = set[asyncio.Task[None]]()
        self._listener: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._acceptor: Acceptor | None = None
        self._watch = asyncio.get_running_loop().create_task(self.connections.watch())

    async def listen(self, listener: socket.socket) -> None:
        """Take in what comes to a listening socket."""
        if self._tls is not None:
            # The loop's own server knows nothing of a connection before its handshake is done.
            self._acceptor = Acceptor(listener, self.take)
            return
        self._listener = listener
        self._server = await asyncio.get_running_loop().create_server(
            lambda: self._make(self.connections, None), sock=listener, backlog=BACKLOG
        )

    def take(self, connection: socket.socket) -> None:
        """Take in a connection that has been accepted."""
        begin = self._begin if self._tls is None else self._agree
        task = asyncio.get_running_loop().create_task(begin(connection))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    async def _begin(self, connection: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._make(self.connections, None), connection
            )
        except OSError as error:
            logger.debug("a connection ended as it began: %s", error)
            connection.close()
            self.connections.on_closed()

    async def _agree(self, connection: socket.socket) -> None:
        task = asyncio.current_task()
        assert task is not None
        assert self._tls is not None
        handshake = Handshake(task)
        self.connections.opened(handshake)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._make(self.connections, handshake),
                connection,
                ssl=self._tls(),
                # It would cut answers off on their way: see `Connections.close`.
                ssl_shutdown_timeout=_NO_END_SECONDS,
            )
        except (OSError, asyncio.CancelledError) as error:
            # Not TLS, no cipher in common, cut off here or there.
            logger.debug("a connection ended before TLS was agreed upon: %s", error)
            connection.close()
            self.connections.closed(handshake)

    async def stop(self, seconds: float) -> None:
        """Take no more connections, answer what has arrived, for so many seconds at most.

        A connection whose request is in the socket's buffer but not yet read looks idle, and its
        request would be lost; so there is a moment for it between the two.
        """
        if self._acceptor is not None:
            await self._acceptor.stop(LAST_MOMENT_SECONDS)
        else:
            if self._listener is not None:
                refuse_new_connections(self._listener)
            await asyncio.sleep(LAST_MOMENT_SECONDS)
            if self._server is not None:
                self._server.close()
        await self.connections.finish(seconds)
        self._watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._watch

"""Connections that would hold the server: too slow, too many, with headers without end.

uvicorn's protocol limits the time between requests alone. Here each connection that waits for its
client is looked at once a second, and has to get on:

    headers   the request's head is not complete                            408
    body      its body is not complete                                      408
    answer    the client takes in nothing of the answer                     cut off

When there are more connections than allowed, those make room that wait for their client: first
those that never sent a request, then those between two requests, then those with half a body. So a
new connection, which may be a probe's, is always taken.
"""

from __future__ import annotations

import asyncio
import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from slipway_runtime.metrics import Metrics

if TYPE_CHECKING:
    from slipway_runtime.settings import ServeSettings

_MAX_HEAD_BYTES: Final = 64 * 1024
_SWEEP_SECONDS: Final = 1.0
_ROOM: Final = 8  # a full server frees an eighth of its connections at once
_OWN_FILES: Final = 128  # for the model, the log, gRPC, the kernel's interfaces
_REASONS: Final = {
    400: "Bad Request",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
}


@dataclass
class _Waiting:
    """What a connection waits for from its client, since when (loop time, in seconds)."""

    what: str
    detail: object
    since: float


class Connections:
    """All connections of one server. For the event loop's thread alone."""

    def __init__(self, settings: ServeSettings, metrics: Metrics) -> None:
        self.metrics = metrics
        self._seconds = {
            "headers": settings.header_timeout,
            "body": settings.body_timeout,
            "answer": settings.body_timeout,
        }
        self._most = min(settings.max_connections, _allowed_files() - _OWN_FILES)
        # In the order of their beginning.
        self._open: dict[Connection, _Waiting | None] = {}
        metrics.connections = lambda: len(self._open)

    def protocol(self, **arguments: Any) -> Connection:
        """Return the protocol of a new connection, as uvicorn asks for it."""
        return Connection(self, **arguments)

    def opened(self, connection: Connection) -> None:
        """Take a connection in; if that is one too many, let others make room."""
        self._open[connection] = None
        if len(self._open) > self._most:
            self._make_room(connection)

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        self._open.pop(connection, None)

    async def watch(self) -> None:
        """Look after the connections, until cancelled."""
        timeouts = [seconds for seconds in self._seconds.values() if seconds]
        pause = min([_SWEEP_SECONDS, *(seconds / 4 for seconds in timeouts)])
        while True:
            await asyncio.sleep(pause)
            self._sweep(asyncio.get_running_loop().time())

    def _sweep(self, now: float) -> None:
        for connection, before in list(self._open.items()):
            awaited = connection.awaited()
            if awaited is None:
                self._open[connection] = None
                continue
            what, detail = awaited
            if before is None or (before.what, before.detail) != awaited:
                self._open[connection] = _Waiting(what, detail, now)
            elif 0 < self._seconds[what] < now - before.since:
                self._end(connection, what)

    def _end(self, connection: Connection, what: str) -> None:
        self.metrics.connection_closed(what)
        if what == "answer":
            connection.abort()
        elif what == "headers" and not connection.has_begun:
            connection.close()
        else:
            seconds = self._seconds[what]
            connection.refuse(408, f"the request's {what} took longer than {seconds:g} s")

    def _make_room(self, newest: Connection) -> None:
        ranked: dict[int, list[Connection]] = {}
        for connection in self._open:
            rank = connection.dispensable
            if rank is not None and connection is not newest:
                ranked.setdefault(rank, []).append(connection)
        in_order = [connection for rank in sorted(ranked) for connection in ranked[rank]]
        for connection in in_order[: max(1, self._most // _ROOM)]:
            self.metrics.connection_closed("room")
            connection.abort()


class Connection(HttpToolsProtocol):
    """uvicorn's HTTP protocol, watched over."""

    def __init__(self, connections: Connections, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._all = connections
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See uvicorn."""
        super().connection_made(transport)
        self._all.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See uvicorn."""
        self._all.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See uvicorn; a request's head must not grow without bound."""
        super().data_received(data)
        if self._between_requests:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                self.refuse(431, f"the request's headers are longer than {_MAX_HEAD_BYTES} bytes")
        else:
            self._head_bytes = 0

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, as all errors are answered."""
        self.refuse(400, msg)

    @property
    def _request(self) -> RequestResponseCycle | None:
        """The newest request whose head is complete, answered or not."""
        return cast("RequestResponseCycle | None", self.cycle)

    @property
    def _between_requests(self) -> bool:
        return self._request is None or self._request.response_complete

    @property
    def has_begun(self) -> bool:
        """Whether a request has begun that has got no answer yet."""
        if self._request is None:
            return self._head_bytes > 0
        # uvicorn replaces the scope when the head of a new request begins.
        return not self._request.response_complete or self.scope is not self._request.scope

    @property
    def dispensable(self) -> int | None:
        """How soon this connection makes room for others (0 first), or None: never."""
        if self._request is None:
            return 0
        if self._request.response_complete:
            return 1
        return 2 if self._request.more_body else None

    def awaited(self) -> tuple[str, object] | None:
        """Return what is awaited from the client, and what must change for it to get on."""
        unsent = self.transport.get_write_buffer_size()
        if unsent:
            return "answer", unsent
        request = self._request
        if request is None or request.response_complete:
            # The time between two requests is limited by a timer of uvicorn's.
            idle = self.timeout_keep_alive_task is not None and not self.has_begun
            return None if idle else ("headers", None)
        return ("body", id(request)) if request.more_body else None

    def refuse(self, status: int, message: str) -> None:
        """Answer an error, unless an answer is under way, and close."""
        if self.transport.is_closing():
            return
        if self._request is None or not self._request.response_started or self._between_requests:
            self._all.metrics.responded(status)
            body = orjson.dumps({"error": message})
            head = (
                f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()

    def close(self) -> None:
        """Close after what is still to be sent."""
        self.transport.close()

    def abort(self) -> None:
        """Close at once."""
        self.transport.abort()


def _allowed_files() -> int:
    """Return how many files the process may open, after asking for all that it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 30

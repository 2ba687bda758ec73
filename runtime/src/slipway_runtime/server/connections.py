"""Connections that would hold the server: too slow, too many, with headers without end.

Each connection that waits for its client is looked at once a second, and has to get on:

    handshake TLS is not agreed upon                                        cut off
    headers   the request's head is not complete                            408
    body      its body is not complete                                      408
    answer    the client takes in nothing of the answer                     cut off
    request   nothing has come since the last answer                        closed

When there are more connections than allowed, those make room that wait for their client: first
those that never sent a request (or are not through with TLS), then those between two requests, then
those with half a body. So a new connection, which may be a probe's, is always taken. Who has sent
what is not read yet, or whose answer has not left yet, only looks idle, and is spared where others
can go.
"""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import logging
import resource
import sys
import termios
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING, Final, Protocol

from slipway_runtime.metrics import Metrics
from slipway_runtime.server.busy_poll import BusyPoll
from slipway_runtime.server.intake import Intake
from slipway_runtime.server.turns import Turns

if TYPE_CHECKING:
    from slipway_runtime.settings import ServeSettings

logger = logging.getLogger(__name__)

_SWEEP_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.1
_ROOM: Final = 8  # a full server frees an eighth of its connections at once
_OWN_FILES: Final = 128  # for the model, the log, the kernel's interfaces


@dataclass
class _Waiting:
    """What a connection waits for from its client, since when (loop time, in seconds)."""

    what: str
    detail: object
    since: float


class Watched(Protocol):
    """What is asked and done here; see `Connection`."""

    @property
    def dispensable(self) -> int | None: ...  # noqa: D102
    @property
    def has_begun(self) -> bool: ...  # noqa: D102
    @property
    def on_its_way(self) -> bool: ...  # noqa: D102
    def awaited(self) -> tuple[str, object] | None: ...  # noqa: D102
    def refuse(self, status: int, message: str) -> None: ...  # noqa: D102
    def finish(self) -> None: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102
    def abort(self) -> None: ...  # noqa: D102
    def look_after(self, now: float, seconds: Mapping[str, float]) -> None: ...  # noqa: D102


class Handshake:
    """A connection whose TLS is not agreed upon yet; ``task`` is about that."""

    dispensable = 0
    has_begun = False
    on_its_way = False

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def awaited(self) -> tuple[str, object] | None:
        """Return what is awaited from the client."""
        return "handshake", None

    def refuse(self, status: int, message: str) -> None:  # noqa: ARG002
        """Cut off: there is no way to say why."""
        self.abort()

    def finish(self) -> None:
        """Cut off: no request has begun."""
        self.abort()

    def close(self) -> None:
        """Cut off."""
        self.abort()

    def abort(self) -> None:
        """Cut off."""
        self._task.cancel()

    def look_after(self, now: float, seconds: Mapping[str, float]) -> None:
        """There is nothing else to wait for."""


class Connections:
    """All connections of one server. For the event loop's thread alone.

    ``on_closed`` hears of each that has ended; ``latest`` is when the newest one came, by the clock
    of time.monotonic(). ``poll`` hears of all that comes and of all answers, ``turns`` of
    new requests; ``intake`` counts the bodies.
    """

    def __init__(self, settings: ServeSettings, metrics: Metrics) -> None:
        self.metrics = metrics
        self.on_closed: Callable[[], object] = lambda: None
        self.latest = 0.0
        self.poll = BusyPoll(0.0)
        self.turns = Turns()
        self.intake = Intake(settings.intake_bytes)
        self._seconds = {
            "handshake": settings.header_timeout,
            "headers": settings.header_timeout,
            "body": settings.body_timeout,
            "answer": settings.body_timeout,
            "request": settings.keep_alive,
        }
        # Each port has its share of the files, so that all of them may be full.
        share = (_allowed_files() - _OWN_FILES) // settings.ports
        self._most = min(settings.max_connections, share)
        # In the order of their beginning.
        self._open: dict[Watched, _Waiting | None] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self._date = (0, b"")
        # There may be a port in the clear and one with TLS.
        others = metrics.connections
        metrics.connections = lambda: others() + len(self._open)

    def opened(self, connection: Watched, after: Handshake | None = None) -> None:
        """Take a connection in; if that is one too many, let others make room.

        ``after`` is what it was before.
        """
        self.latest = time.monotonic()
        self._open[connection] = None
        if after is not None:
            self._open.pop(after, None)
        self._empty.clear()
        if len(self._open) > self._most:
            self._make_room(connection)

    def closed(self, connection: Watched) -> None:
        """Forget a connection."""
        if connection not in self._open:
            return
        del self._open[connection]
        if not self._open:
            self._empty.set()
        self.on_closed()

    def date(self) -> bytes:
        """Return the value of the header Date, as of this second."""
        now = int(time.time())
        if now != self._date[0]:
            self._date = (now, formatdate(now, usegmt=True).encode())
        return self._date[1]

    async def finish(self, seconds: float) -> None:
        """End each connection once what has arrived is answered, and after so long all of them."""
        for connection in list(self._open):
            connection.finish()
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            for connection in list(self._open):
                connection.abort()

    async def watch(self) -> None:
        """Look after the connections, until cancelled."""
        timeouts = [seconds for seconds in self._seconds.values() if seconds]
        pause = min([_SWEEP_SECONDS, *(seconds / 4 for seconds in timeouts)])
        while True:
            await asyncio.sleep(pause)
            now = asyncio.get_running_loop().time()
            for connection, before in list(self._open.items()):
                try:
                    self._look_at(connection, before, now)
                except Exception:
                    logger.exception("a defect in the watch over a connection")
                    connection.abort()

    def _look_at(self, connection: Watched, before: _Waiting | None, now: float) -> None:
        connection.look_after(now, self._seconds)
        awaited = connection.awaited()
        if awaited is None:
            self._open[connection] = None
            return
        what, detail = awaited
        if before is None or (before.what, before.detail) != awaited:
            self._open[connection] = _Waiting(what, detail, now)
        elif 0 < self._seconds[what] < now - before.since:
            self._end(connection, what)

    def _end(self, connection: Watched, what: str) -> None:
        if what == "request":
            connection.close()
            return
        self.metrics.connection_closed(what)
        if what in ("answer", "handshake"):
            connection.abort()
        elif what == "headers" and not connection.has_begun:
            connection.close()
        else:
            seconds = self._seconds[what]
            connection.refuse(408, f"the request's {what} took longer than {seconds:g} s")

    def close(self, connection: Watched, transport: asyncio.Transport) -> None:
        """Close a connection after what is still to be sent.

        Over TLS the event loop then waits for the client's own farewell, which one that is not
        reading, as an idle one of a pool, does not send: once it has all, the connection is cut.
        """
        transport.close()
        if transport.get_extra_info("sslcontext") is not None:
            self._see_off(connection, transport, -1, 0.0)

    def _see_off(
        self, connection: Watched, transport: asyncio.Transport, before: int, since: float
    ) -> None:
        if connection not in self._open:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        unsent = transport.get_write_buffer_size() + _not_acknowledged(transport)
        if unsent != before:
            since = now
        if (not unsent and before >= 0) or 0 < self._seconds["answer"] < now - since:
            transport.abort()
            return
        loop.call_later(_LOOK_SECONDS, self._see_off, connection, transport, unsent, since)

    def _make_room(self, newest: Watched) -> None:
        ranked: dict[int, list[Watched]] = {}
        for connection in self._open:
            rank = connection.dispensable
            if rank is not None and connection is not newest:
                ranked.setdefault(rank, []).append(connection)
        in_order = [connection for rank in sorted(ranked) for connection in ranked[rank]]
        wanted = max(1, self._most // _ROOM)
        idle = (connection for connection in in_order if not connection.on_its_way)
        # If none is, more room is needed than one turn of the loop can see.
        for connection in list(itertools.islice(idle, wanted)) or in_order[:wanted]:
            self.metrics.connection_closed("room")
            connection.abort()
            # It will tell of its end later, when more may have come that need room.
            self.closed(connection)


def is_on_its_way(transport: asyncio.Transport, *, reading: bool) -> bool:
    """Return whether the event loop has something to send yet, or to read where it reads."""
    if transport.get_write_buffer_size():
        return True
    if not reading or transport.is_closing():
        return False
    descriptor = transport.get_extra_info("socket").fileno()
    waiting = fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4))
    return int.from_bytes(waiting, sys.byteorder) > 0


def _not_acknowledged(transport: asyncio.Transport) -> int:
    """Return how many bytes the system has to send yet, or the client to acknowledge."""
    try:
        descriptor = transport.get_extra_info("socket").fileno()
        sent = fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4))
    except (OSError, ValueError):
        return 0  # It is closed.
    return int.from_bytes(sent, sys.byteorder)


def _allowed_files() -> int:
    """Return how many files the process may open, after asking for all that it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 30

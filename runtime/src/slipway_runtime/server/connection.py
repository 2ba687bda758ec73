"""One client's connection: HTTP/1.1 between a socket and the handlers of requests.

It decides when a request is handed over, in which order answers leave, and when the connection
ends. It replaces a general ASGI server because that costs several times what a small model's
inference does; see docs/adr/0060.

One request is answered at a time. Requests that a client sends ahead (pipelining) wait, and while
they do nothing more is read from it; nor is it, and nothing more is answered, while a client leaves
its answers unread. The head and the body of an answer leave in one write.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final, cast

import orjson

from slipway_runtime.server import eager
from slipway_runtime.server.connections import is_on_its_way
from slipway_runtime.server.http import CLIENT_GONE, ClientGoneError, Exchange, Response
from slipway_runtime.server.request_reader import RefusedError, RequestReader
from slipway_runtime.server.response_bytes import encode

if TYPE_CHECKING:
    from slipway_runtime.server.connections import Connections, Handshake
    from slipway_runtime.server.intake import Intake

Answer = Callable[[Exchange], Awaitable[Response]]

# The rest of a body that nobody reads: up to here it is swallowed, beyond it the connection ends.
_SWALLOWED_BYTES: Final = 256 * 1024
_PUT_OFF_BYTES: Final = 16 * 1024
# Of answers that the client has not taken in: beyond this it gets no further ones.
_MOST_UNSENT: Final = 1024 * 1024
_LINGER_SECONDS: Final = 2.0
_IN_A_ROW: Final = 16
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


def connections_for(answer: Answer) -> Callable[[Connections, Handshake | None], Connection]:
    """Return what makes connections whose requests ``answer`` handles."""
    return partial(Connection, answer)


class Connection(asyncio.Protocol):
    """One connection. ``answer`` handles a request; ``connections`` knows all of them, and knew
    this one as ``before`` while TLS was agreed upon.
    """

    __slots__ = (
        "_all",
        "_answer",
        "_before",
        "_choked",
        "_current",
        "_deaf",
        "_ending",
        "_last",
        "_paused",
        "_reader",
        "_served",
        "_starting",
        "_transport",
        "_waiting",
        "_written",
    )

    def __init__(
        self, answer: Answer, connections: Connections, before: Handshake | None = None
    ) -> None:
        self._answer = answer
        self._all = connections
        self._before = before
        self._transport: asyncio.Transport
        self._current: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        self._reader = RequestReader(self, self._waiting.append)
        self._starting = False
        self._served = 0
        self._written = 0
        self._choked = False
        self._last = False
        self._deaf = False
        self._ending = False
        self._paused = False

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(_MOST_UNSENT)
        self._all.opened(self, self._before)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Notify the requests under way that nobody waits for them any longer."""
        self._all.closed(self)
        if self._all.turns.forget(self):
            self._all.metrics.responded(CLIENT_GONE)
        self._ending = True
        for exchange in (self._reader.receiving, self._current, *self._waiting):
            if exchange is not None:
                exchange.lose()
        for exchange in self._waiting:
            exchange.release()
        self._waiting.clear()
        # Each of them holds this connection: its memory would be free only when the garbage
        # collector comes by.
        self._current = None
        self._reader.close()

    def pause_writing(self) -> None:
        """Answer nothing more: the client does not read."""
        self._choked = True
        if not self._ending:
            self._pause()

    def resume_writing(self) -> None:
        """Go on answering."""
        self._choked = False
        self._start_next()
        if not self._waiting:
            self.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Take in what the client has sent."""
        if self._ending or self._deaf:
            return
        self._all.poll.heard()
        turns = self._all.turns
        if turns.over() and (self in turns or self._may_wait(data)):
            if not turns.defer(self, data):
                self._pause()
            return
        self.take_in(data, 0.0)

    def _may_wait(self, data: bytes) -> bool:
        """Return whether these bytes, the first of a request, may be deferred: not a probe's."""
        return len(data) <= _PUT_OFF_BYTES and data.startswith(b"POST ") and not self.has_begun

    def take_in(self, data: bytes, waited: float) -> None:
        """Parse, and answer what is complete; the bytes were deferred for ``waited`` seconds."""
        if self._ending or self._deaf:
            return
        self.resume_reading()
        try:
            self._reader.feed(data, waited)
        except RefusedError as refusal:
            self._start_next()
            self.refuse(refusal.status, refusal.message)
            return
        self._start_next()
        if self._waiting:
            self._pause()
        elif self._last and not self._ending and not self.has_begun:
            self.close()  # What came was the rest of a body whose request had its answer.

    # What an exchange asks for.

    @property
    def intake(self) -> Intake:
        """What counts the bodies of all requests."""
        return self._all.intake

    def send_continue(self) -> None:
        """Tell a client that waits for it to send the body."""
        if not self._transport.is_closing():
            self._transport.write(_CONTINUE)

    def pause_reading(self) -> None:
        """Read no more of a body that nobody has asked for yet."""
        self._pause()

    def resume_reading(self) -> None:
        """Read on."""
        if self._paused and not self._ending and not self._choked:
            self._paused = False
            self._transport.resume_reading()

    # Answering.

    def _start_next(self) -> None:
        """Begin to answer what waits, if nothing is being answered."""
        if self._starting:
            return  # Called from below: the loop goes on.
        self._starting = True
        try:
            for _ in range(_IN_A_ROW):
                if self._current is not None or not self._waiting or self._ending or self._choked:
                    break
                self._current = self._waiting.popleft()
                eager.run(self._serve(self._current))
            else:
                # The other connections' turn.
                asyncio.get_running_loop().call_soon(self._start_next)
        finally:
            self._starting = False

    async def _serve(self, exchange: Exchange) -> None:
        try:
            response = await self._answer(exchange)
        except ClientGoneError:
            _note(exchange)
            if not self._ending:
                self.abort()
            return
        finally:
            exchange.release()
        if self._ending:
            _note(exchange)
            return
        self._served += 1
        self._current = None
        keep_alive = self._may_go_on(exchange, response)
        self._send(response, keep_alive=keep_alive, bodiless=exchange.method == "HEAD")
        _note(exchange)
        if not keep_alive:
            self._end(linger=not exchange.complete or self._paused or bool(self._waiting))
            return
        self._start_next()
        if not self._waiting:
            self.resume_reading()

    def _may_go_on(self, exchange: Exchange, response: Response) -> bool:
        """Return whether another request may follow on this connection."""
        if response.close or not exchange.keep_alive or (self._last and not self._waiting):
            return False
        return exchange.complete or exchange.swallow(_SWALLOWED_BYTES)

    def _send(self, response: Response, *, keep_alive: bool, bodiless: bool = False) -> None:
        parts = encode(response, self._all.date(), keep_alive=keep_alive, bodiless=bodiless)
        self._written += sum(map(len, parts))
        if len(parts) == 1:
            self._transport.write(parts[0])
        else:
            self._transport.writelines(parts)
        self._all.poll.answered()

    # Ending.

    def _end(self, *, linger: bool) -> None:
        """Close after what is still to be sent.

        A connection that is closed over unread bytes loses the answer on its way, so a client that
        still sends is given a moment to stop.
        """
        self._ending = True
        if not linger:
            self._all.close(self, self._transport)
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        loop = asyncio.get_running_loop()
        loop.call_later(_LINGER_SECONDS, self._all.close, self, self._transport)

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def finish(self) -> None:
        """End as soon as what has arrived is answered."""
        self._last = True
        if not self.has_begun:
            self.close()

    def refuse(self, status: int, message: str) -> None:
        """Answer an error and close; answers to earlier requests still come first."""
        self._deaf = self._last = True
        if self._ending:
            return
        if self._busy:
            if self._waiting and self._waiting[-1] is self._reader.receiving:
                self._waiting.pop().release()  # It will never be complete.
                self._reader.receiving = None
            return
        if self._reader.receiving is None or self._reader.receiving is self._current:
            if self._current is None:
                self._all.metrics.responded(status)
            else:
                self._current.refused = status  # Who answers it hears of this, and counts it.
            response = Response(status, orjson.dumps({"error": message}))
            self._send(response, keep_alive=False)
        # Else what is received is the rest of a body whose request had its answer.
        self._end(linger=True)
        if self._current is not None:
            self._current.lose()

    def close(self) -> None:
        """Close after what is still to be sent."""
        self._ending = True
        self._all.close(self, self._transport)

    def abort(self) -> None:
        """Close at once."""
        self._ending = True
        self._transport.abort()

    # What the watch over all connections asks.

    @property
    def _busy(self) -> bool:
        """Whether a request that is here as a whole is being answered, or was deferred."""
        if self._current is not None and self._current is not self._reader.receiving:
            return True
        if self._waiting and self._waiting[0] is not self._reader.receiving:
            return True
        return self in self._all.turns

    @property
    def dispensable(self) -> int | None:
        """How soon this connection makes room for others (0 first), or None: never."""
        if self._busy:
            return None
        if self._reader.receiving is not None:
            return 2
        return 1 if self._served else 0

    @property
    def on_its_way(self) -> bool:
        """Whether a request has come that is not read yet, or an answer has not left yet."""
        return is_on_its_way(self._transport, reading=not self._paused)

    @property
    def has_begun(self) -> bool:
        """Whether a request has begun that has got no answer yet."""
        if self._reader.in_head or self._reader.receiving is not None or self._current is not None:
            return True
        return bool(self._waiting) or self in self._all.turns

    def look_after(self, now: float, seconds: Mapping[str, float]) -> None:
        """There is one request at a time, and `awaited` tells all of it."""

    def awaited(self) -> tuple[str, object] | None:
        """Return what is awaited from the client, and what must change for it to get on."""
        unsent = self._transport.get_write_buffer_size()
        if unsent:
            return "answer", self._written - unsent
        if self._busy or self._ending:
            return None
        if self._reader.receiving is not None:
            return "body", self._reader.heads
        if self._reader.in_head or not self._served:
            return "headers", max(self._reader.heads, 1)
        return "request", self._served


def _note(exchange: Exchange) -> None:
    """Have a request counted and logged; what does it knows the exchange, which lets go of it."""
    note, exchange.note = exchange.note, None
    if note is not None:
        note()

"""One client's connection: HTTP/2 between a socket and calls."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, cast

from slipway_runtime.errors import RequestError
from slipway_runtime.http2.connection import Http2Connection
from slipway_runtime.http2.errors import ConnectionFailedError, ErrorCode
from slipway_runtime.http2.headers import Request, encode
from slipway_runtime.http2.stream import NOBODY, Receiver, Stream
from slipway_runtime.server.connections import is_on_its_way
from slipway_runtime.server.grpc import status
from slipway_runtime.server.grpc.call import (
    ACCEPTED,
    CONTENT_TYPE,
    HEAD,
    Call,
    Method,
    StreamCall,
    Terms,
    UnaryCall,
)
from slipway_runtime.server.grpc.status import Code

if TYPE_CHECKING:
    from slipway_runtime.server.connections import Connections, Handshake

_WORTH_JOINING: Final = 64 * 1024
# What may wait in memory for a client that sends and does not read: then it is heard no more.
_MOST_UNSENT: Final = 1024 * 1024
# What a client that is asked to leave has to answer, before it is not waited for.
_FAREWELL_SECONDS: Final = 1.0
_LINGER_SECONDS: Final = 1.0
_ONLY_GRPC: Final = b"this port speaks gRPC: send POST with the content type application/grpc\n"
# Of a body that nobody reads.
_SWALLOWED_BYTES: Final = 256 * 1024


class GrpcConnection(asyncio.Protocol):
    """One connection; ``methods`` are known by their paths.

    ``connections`` knows all of them, and knew this one as ``before`` while TLS was agreed upon.
    """

    __slots__ = (
        "_all",
        "_before",
        "_deaf",
        "_ending",
        "_http",
        "_methods",
        "_scheduled",
        "_served",
        "_terms",
        "_transport",
        "_waited",
    )

    def __init__(
        self,
        methods: Mapping[bytes, Method],
        terms: Terms,
        connections: Connections,
        before: Handshake | None = None,
    ) -> None:
        self._methods = methods
        self._terms = terms
        self._all = connections
        self._before = before
        self._transport: asyncio.Transport
        self._http: Http2Connection
        self._scheduled = False
        self._deaf = False
        self._ending = False
        self._served = 0
        self._waited = 0.0

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._http = Http2Connection(self._accept, self._wake)
        self._all.opened(self, self._before)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Notify the calls under way that nobody waits for them any longer."""
        self._all.closed(self)
        self._all.turns.forget(self)
        self._ending = True
        self._http.lose()
        # It holds this connection: both would be freed only when the garbage collector comes by.
        del self._http

    def data_received(self, data: bytes) -> None:
        """Take in what the client has sent, and send what could be answered at once."""
        if self._ending:
            return
        self._all.poll.heard()
        turns = self._all.turns
        if not turns.over():
            self.take_in(data, 0.0)
        elif not turns.defer(self, data):
            self._deaf = True
            self._transport.pause_reading()

    def take_in(self, data: bytes, waited: float) -> None:
        """Parse, and answer what is complete; the bytes were deferred for ``waited`` seconds."""
        if self._ending:
            return
        self._waited = waited
        self._http.receive(data)
        self._flush()
        if self._deaf and not (self._ending or self._http.outgoing.choked):
            self._hear()

    def _hear(self) -> None:
        self._deaf = False
        self._transport.resume_reading()

    def pause_writing(self) -> None:
        """Hold data back: the client, or the network, takes no more for now."""
        self._http.outgoing.choked = True

    def resume_writing(self) -> None:
        """Go on."""
        if not self._ending:
            self._http.outgoing.choked = False
            self._http.outgoing.pump()
            self._flush()
            if self._deaf:
                self._hear()

    # Requests.

    def _accept(self, stream: Stream, request: Request) -> Receiver:
        self._served += 1
        if not _is_grpc(request.fields.get(b"content-type", b"")):
            return _Refusal(stream, (b":status", b"415"), (b"content-type", b"text/plain"))
        if request.method != b"POST":
            return _Refusal(stream, (b":status", b"405"), (b"allow", b"POST"))
        method = self._methods.get(request.path)
        try:
            if method is not None:
                return self._call(method, stream, request)
            path = request.path.decode("latin-1")[:200]
            code, text = Code.UNIMPLEMENTED, f"there is no method {path} here"
        except RequestError as error:
            code, text = status.code_of(error), error.message
        more = self._terms.told_always + ACCEPTED
        stream.send(None, b"", HEAD + status.trailers(code, text, more))
        return NOBODY

    def _call(self, method: Method, stream: Stream, request: Request) -> Receiver:
        kind = StreamCall if method.streams else UnaryCall
        call = kind(method, stream, request, self._terms, self._waited)
        try:
            self._terms.admit(call)
        except RequestError as error:
            call.fail(status.code_of(error), error.message)
        if self._http.leaving:
            call.finish()
        return call

    # Sending.

    def _wake(self) -> None:
        """Send at the end of this turn, together with what else comes up in it."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush_later)

    def _flush_later(self) -> None:
        self._scheduled = False
        if not self._ending:
            self._flush()

    def _flush(self) -> None:
        out = self._http.outgoing.take()
        transport = self._transport
        if out:
            if sum(map(len, out)) <= _WORTH_JOINING:
                transport.write(b"".join(out))
            else:
                transport.writelines(out)
            self._all.poll.answered()
            if self._http.outgoing.choked and transport.get_write_buffer_size() > _MOST_UNSENT:
                self._deaf = True
                transport.pause_reading()
        if self._http.over:
            self._end()

    def _end(self) -> None:
        """Close after what is still to be sent.

        A connection that is closed over unread bytes loses the answer on its way, so the client is
        given a moment to close its side.
        """
        self._ending = True
        if self._transport.can_write_eof():
            self._transport.write_eof()
            loop = asyncio.get_running_loop()
            loop.call_later(_LINGER_SECONDS, self._all.close, self, self._transport)
        else:
            self._all.close(self, self._transport)

    # Ending.

    def finish(self) -> None:
        """End as soon as what has arrived is answered."""
        if self._ending:
            return
        self._http.leave()
        for _, call in self._calls():
            call.finish()
        self._flush()
        asyncio.get_running_loop().call_later(_FAREWELL_SECONDS, self._take_no_more)

    def _take_no_more(self) -> None:
        if not self._ending:
            self._http.leave_now()
            self._flush()

    def refuse(self, status: int, message: str) -> None:  # noqa: ARG002
        """End the connection of a client that does not get on with a head."""
        if not self._ending:
            self._http.fail(ConnectionFailedError(ErrorCode.ENHANCE_YOUR_CALM, message))
            self._flush()

    def look_after(self, now: float, seconds: Mapping[str, float]) -> None:
        """End calls with which the client does not get on; the others are not disturbed."""
        if self._ending or self in self._all.turns:
            return
        for stream, call in self._calls():
            waits = ("answer", stream.sent) if stream.blocked else call.awaited()
            if waits is None:
                call.waits = None
                continue
            what, detail = waits
            if call.waits is None or call.waits[:2] != waits:
                call.waits = (what, detail, now)
            elif not 0 < seconds[what] < now - call.waits[2]:
                continue
            elif what == "answer":
                stream.reset(ErrorCode.CANCEL)
                call.lost()
            else:
                message = f"the request's {what} took longer than {seconds[what]:g} s"
                call.fail(Code.DEADLINE_EXCEEDED, message)
        self._flush()

    def close(self) -> None:
        """Close after what is still to be sent."""
        if not self._ending:
            self._http.leave_now()
            self._http.lose()
            self._flush()

    def abort(self) -> None:
        """Close at once."""
        self._ending = True
        self._transport.abort()

    # What the watch over all connections asks.

    @property
    def dispensable(self) -> int | None:
        """How soon this connection makes room for others (0 first), or None: never."""
        calls = self._calls()
        if self in self._all.turns or any(call.busy for _, call in calls):
            return None
        if calls:
            return 2
        return 1 if self._served else 0

    @property
    def on_its_way(self) -> bool:
        """Whether a call has come that is not read yet, or an answer has not left yet."""
        choked = self._ending or self._http.outgoing.choked
        return self._scheduled or is_on_its_way(self._transport, reading=not choked)

    @property
    def has_begun(self) -> bool:
        """Whether a request has begun that has got no answer yet."""
        return bool(self._http.streams or self._http.awaits_head or self in self._all.turns)

    def awaited(self) -> tuple[str, object] | None:
        """Return what is awaited from the client, and what must change for it to get on.

        What single calls wait for is seen by `look_after`.
        """
        http = self._http
        unsent = self._transport.get_write_buffer_size()
        if unsent or self._ending:
            return "answer", unsent
        if self in self._all.turns:
            return None
        if http.awaits_head:
            return "headers", http.frames_received
        # A client that sends PINGs wants to keep the connection.
        return None if http.streams else ("request", http.frames_received)

    def _calls(self) -> list[tuple[Stream, Call | _Refusal]]:
        return [
            (stream, stream.receiver)
            for stream in self._http.streams.values()
            if isinstance(stream.receiver, (Call, _Refusal))
        ]


def _is_grpc(media_type: bytes) -> bool:
    return media_type.startswith(CONTENT_TYPE) and media_type[len(CONTENT_TYPE) :][:1] in (
        b"", b"+", b";",
    )  # fmt: skip


class _Refusal:
    """Answers who does not speak gRPC as HTTP does: after the request, unless that is long."""

    busy = False

    def __init__(self, stream: Stream, *fields: tuple[bytes, bytes]) -> None:
        self.waits: tuple[str, object, float] | None = None
        self._stream = stream
        self._fields = fields
        self._swallowed = 0

    def received(self, data: bytes, *, complete: bool) -> None:
        self._swallowed += len(data)
        if complete or self._swallowed > _SWALLOWED_BYTES:
            self._answer()

    def awaited(self) -> tuple[str, object] | None:
        return "body", None

    def fail(self, _code: Code, _message: str) -> None:
        self._answer()

    def finish(self) -> None:
        self._answer()

    def lost(self) -> None:
        pass

    def drained(self) -> None:
        pass

    def _answer(self) -> None:
        self._stream.send(encode(self._fields), _ONLY_GRPC, b"")

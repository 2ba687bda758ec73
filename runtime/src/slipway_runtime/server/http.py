"""Requests and answers, and the one mapping from errors to HTTP statuses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol, TypeAlias

import orjson

from slipway_runtime.errors import (
    BadRequest,
    BodyTooLarge,
    DeadlineExceeded,
    InferenceFailed,
    InsecureConnection,
    MethodNotAllowed,
    NotReady,
    NotSupported,
    ProtocolViolation,
    QueueFull,
    RequestError,
    Unauthorized,
    UnknownResource,
    UnrepresentableOutput,
    UnsupportedMediaType,
)
from slipway_runtime.server import request_ids
from slipway_runtime.server.compression import INLINE_BYTES, inflate
from slipway_runtime.server.intake import SMALL_BYTES, Intake
from slipway_runtime.server.phases import Phases

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

JSON: Final = b"application/json"

STATUS: Final[dict[type[RequestError], int]] = {
    BadRequest: 400,
    ProtocolViolation: 400,
    Unauthorized: 401,
    InsecureConnection: 403,
    UnknownResource: 404,
    MethodNotAllowed: 405,
    BodyTooLarge: 413,
    UnsupportedMediaType: 415,
    UnrepresentableOutput: 422,
    QueueFull: 429,
    InferenceFailed: 500,
    NotSupported: 501,
    NotReady: 503,
    DeadlineExceeded: 504,
}

CLIENT_GONE: Final = 499
"""No answer has this status: nginx logs it where the connection ended before there was one."""

_MAX_DIGITS: Final = 18
_SERVER_ERROR: Final = 500
_UNASKED_BYTES: Final = 256 * 1024


class ClientGoneError(Exception):
    """The client closed the connection before its body was complete."""


class Response(NamedTuple):
    """One answer; the parts of its body are sent one after another."""

    status: int
    body: bytes | tuple[bytes | memoryview, ...]
    content_type: bytes = JSON
    headers: Headers = ()
    close: bool = False

    @property
    def size(self) -> int:
        """The length of the body in bytes."""
        return sum(map(len, self.body)) if isinstance(self.body, tuple) else len(self.body)


class Peer(Protocol):
    """The side of a connection that a request's body needs."""

    @property
    def intake(self) -> Intake:
        """What counts the bodies of all requests."""
        ...

    def send_continue(self) -> None:
        """Tell a client that waits for it to send the body."""
        ...

    def pause_reading(self) -> None:
        """Read no more for now."""
        ...

    def resume_reading(self) -> None:
        """Read on."""
        ...


class Exchange:
    """One request: the headers that matter, and its body as it arrives.

    The connection feeds it; a handler reads it with `body`. ``waited`` is for how many seconds it
    was deferred before it began. ``note`` counts and logs it once the answer is on its way, when
    nobody waits for that any longer. For the event loop's thread alone.
    """

    __slots__ = (
        "_header_length",
        "_held",
        "_limit",
        "_lost",
        "_on_loss",
        "_parts",
        "_peer",
        "_refusal",
        "_size",
        "_swallowing",
        "_wake",
        "accept_encoding",
        "complete",
        "content_encoding",
        "content_length",
        "content_type",
        "expects_continue",
        "headers",
        "keep_alive",
        "media_type",
        "method",
        "note",
        "path",
        "phases",
        "query",
        "refused",
        "request_id",
        "waited",
    )

    def __init__(
        self,
        method: str,
        path: str,
        query: bytes,
        headers: Headers,
        peer: Peer,
        waited: float = 0.0,
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.waited = waited
        self.refused = 0  # the status by which the connection has answered in its handler's place
        self.keep_alive = True
        self.phases: Phases | None = None
        self.note: Callable[[], None] | None = None
        self.complete = False
        self._peer = peer
        self._parts: list[bytes] = []
        self._size = 0
        self._held = 0  # of the intake
        self._refusal: RequestError | None = None
        self._limit: int | None = None
        self._swallowing = False
        self._lost = False
        self._wake: asyncio.Future[None] | None = None
        self._on_loss: Callable[[], None] | None = None
        header = dict(headers).get
        length = header(b"content-length")
        self.content_length = None if length is None else int(length)
        self.content_type = header(b"content-type", b"")
        # In lower case, without parameters.
        self.media_type = self.content_type.partition(b";")[0].strip().lower()
        self.content_encoding = header(b"content-encoding", b"").strip().lower()
        self.accept_encoding = header(b"accept-encoding", b"")
        self.expects_continue = header(b"expect", b"").lower() == b"100-continue"
        self._header_length = header(b"inference-header-content-length")
        self.request_id = request_ids.clean(header(b"x-request-id", b"")) or request_ids.new()

    # What the connection tells.

    def feed(self, data: bytes) -> None:
        """Take a part of the body."""
        self._size += len(data)
        if self._swallowing:
            return
        self._parts.append(data)
        if self._size > SMALL_BYTES:
            try:
                self._held = self._peer.intake.hold(self._held, self._size)
            except QueueFull as error:
                self._refuse(error)
                return
        if self._limit is None:
            if self._size > _UNASKED_BYTES:
                self._peer.pause_reading()
        elif self._size > self._limit:
            self._wake_up()

    def _refuse(self, error: QueueFull) -> None:
        self._refusal = error
        self._swallowing = True
        self._parts.clear()
        self.release()
        self._wake_up()

    def release(self) -> None:
        """Note that the body is no longer needed."""
        if self._held:
            self._peer.intake.release(self._held)
            self._held = 0

    def end(self) -> None:
        """Know that the body is complete."""
        self.complete = True
        self._wake_up()

    def lose(self) -> None:
        """Know that the client has gone."""
        self._lost = True
        self._wake_up()
        if self._on_loss is not None:
            self._on_loss()

    def swallow(self, most: int) -> bool:
        """Drop the rest of the body as it comes; False if that may be more than ``most`` bytes."""
        left = most + 1 if self.content_length is None else self.content_length - self._size
        self._swallowing = True
        self._parts.clear()
        return left <= most

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    # What handlers ask.

    def header(self, name: bytes) -> str | None:
        """Return the value of a header that is seldom looked at; ``name`` in lower case."""
        for key, value in self.headers:
            if key == name:
                return value.decode("latin-1")
        return None

    @property
    def header_length(self) -> int | None:
        """The length of the JSON in front of binary tensors, if the client has told one.

        Raises:
            BadRequest: it is no number.
        """
        if self._header_length is None:
            return None
        if not self._header_length.isdigit() or len(self._header_length) > _MAX_DIGITS:
            raise BadRequest(
                "Inference-Header-Content-Length must be a number of bytes, got"
                f" {self._header_length.decode('latin-1')[:50]!r}"
            )
        return int(self._header_length)

    async def body(self, limit: int) -> bytes:
        """Read the whole body of at most ``limit`` bytes, also when inflated; once.

        Raises:
            BodyTooLarge: it is, or says that it is, longer.
            QueueFull: the bodies of all requests together take too much.
            UnsupportedMediaType: it is compressed in another way than gzip or deflate.
            BadRequest: it is not compressed in the way it says.
            ClientGoneError: the client closed the connection.
        """
        data = await self._read(limit)
        if not self.content_encoding or self.content_encoding == b"identity":
            return data
        if len(data) < INLINE_BYTES:
            data = inflate(self.content_encoding, data, limit)
        else:
            data = await asyncio.to_thread(inflate, self.content_encoding, data, limit)
        self._held = self._peer.intake.hold(self._held, len(data))
        return data

    async def _read(self, limit: int) -> bytes:
        if self.content_length is not None and self.content_length > limit:
            raise _too_large(limit)
        if not self.complete:
            self._limit = limit
            if self.expects_continue and not self._size:
                self._peer.send_continue()
            self._peer.resume_reading()
            if self._size <= limit and not self._lost and self._refusal is None:
                self._wake = asyncio.get_running_loop().create_future()
                await self._wake
        if self._refusal is not None:
            raise self._refusal
        if self._size > limit:
            raise _too_large(limit)
        if not self.complete:
            raise ClientGoneError
        # The joined body alone is kept: it may be large.
        parts, self._parts = self._parts, []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def when_lost(self, callback: Callable[[], None]) -> None:
        """Call back once the client has closed the connection."""
        self._on_loss = callback
        if self._lost:
            callback()


def json_response(status: int, document: object, headers: Headers = ()) -> Response:
    """Return an answer with a small JSON document."""
    return Response(status, orjson.dumps(document), headers=headers)


def error_response(error: RequestError) -> Response:
    """Return the answer to a request that failed: ``{"error": message}`` under its status."""
    kind = type(error)
    status = STATUS.get(kind, _SERVER_ERROR)
    headers: list[tuple[bytes, bytes]] = []
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after))
    if isinstance(error, Unauthorized):
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", error.allowed.encode()))
    return Response(
        status,
        orjson.dumps({"error": error.message}),
        headers=headers,
        close=isinstance(error, BodyTooLarge),
    )


def require_kind(exchange: Exchange, *others: bytes) -> None:
    """Check that the body claims to be JSON, or of one of the other media types.

    No content type at all and the form type that `curl -d` sends by itself are let through:
    whether the body is JSON shows when it is parsed.

    Raises:
        UnsupportedMediaType: it claims to be something else.
    """
    kind = exchange.media_type
    if kind in (JSON, b"", b"application/x-www-form-urlencoded", *others):
        return
    if not kind.endswith(b"+json"):
        wanted = " or ".join(name.decode() for name in (JSON, *others))
        raise UnsupportedMediaType(
            f"the content type {kind.decode('latin-1')[:100]!r} is not supported: send {wanted}"
        )


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than the limit of {limit} bytes")

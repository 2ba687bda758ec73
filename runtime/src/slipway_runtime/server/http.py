"""Requests and answers on raw ASGI, and the one mapping from errors to HTTP statuses."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import orjson

from slipway_runtime.errors import (
    BadRequest,
    BodyTooLarge,
    DeadlineExceeded,
    InferenceFailed,
    MethodNotAllowed,
    NotReady,
    NotSupported,
    QueueFull,
    RequestError,
    UnknownResource,
    UnrepresentableOutput,
    UnsupportedMediaType,
)
from slipway_runtime.server.compression import inflate

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

JSON: Final = b"application/json"

STATUS: Final[dict[type[RequestError], int]] = {
    BadRequest: 400,
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

_MAX_REQUEST_ID: Final = 128
_MAX_DIGITS: Final = 18
_DISCARD_SECONDS: Final = 2.0
_SERVER_ERROR: Final = 500
_INLINE_BYTES: Final = 64 * 1024


class ClientGoneError(Exception):
    """The client closed the connection before its body was complete."""


@dataclass(frozen=True)
class Response:
    """One answer; the parts of its body are sent one after another."""

    status: int
    body: bytes | tuple[bytes | memoryview, ...]
    content_type: bytes = JSON
    headers: Headers = ()
    close: bool = False


class Exchange:
    """One request with the headers that matter, and how to read its body."""

    __slots__ = (
        "_header_length",
        "_receive",
        "accept_encoding",
        "content_encoding",
        "content_length",
        "content_type",
        "expects_continue",
        "method",
        "path",
        "query",
        "request_id",
    )

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope.get("query_string", b"")
        self._receive = receive
        self.content_type = b""
        self.content_encoding = b""
        self.content_length: int | None = None
        self.accept_encoding = b""
        self._header_length: bytes | None = None
        self.expects_continue = False
        self.request_id = b""
        for name, value in scope["headers"]:
            if name == b"content-type":
                self.content_type = value
            elif name == b"content-length":
                self.content_length = int(value)
            elif name == b"x-request-id":
                self.request_id = _clean_id(value)
            elif name == b"content-encoding":
                self.content_encoding = value.strip().lower()
            elif name == b"inference-header-content-length":
                self._header_length = value
            elif name == b"accept-encoding":
                self.accept_encoding = value
            elif name == b"expect":
                self.expects_continue = True
        if not self.request_id:
            self.request_id = os.urandom(8).hex().encode()

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

    @property
    def media_type(self) -> bytes:
        """The content type in lower case, without parameters."""
        return self.content_type.partition(b";")[0].strip().lower()

    async def body(self, limit: int) -> bytes:
        """Read the whole body of at most ``limit`` bytes, also when inflated.

        Raises:
            BodyTooLarge: it is, or says that it is, longer.
            UnsupportedMediaType: it is compressed in another way than gzip or deflate.
            BadRequest: it is not compressed in the way it says.
            ClientGoneError: the client closed the connection.
        """
        data = await self._read(limit)
        if self.content_encoding in (b"", b"identity"):
            return data
        if len(data) < _INLINE_BYTES:
            return inflate(self.content_encoding, data, limit)
        return await asyncio.to_thread(inflate, self.content_encoding, data, limit)

    async def _read(self, limit: int) -> bytes:
        if self.content_length is not None and self.content_length > limit:
            if not self.expects_continue:
                await self._discard(limit)
            raise _too_large(limit)
        message = await self._message()
        if not message.get("more_body", False):
            body: bytes = message.get("body", b"")
            if len(body) > limit:
                raise _too_large(limit)
            return body
        parts: list[bytes] = []
        size = 0
        while True:
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > limit:
                await self._discard(limit)
                raise _too_large(limit)
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)
            message = await self._message()

    async def _message(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        return message

    async def gone(self) -> None:
        """Wait until the client has closed the connection; for after the body has been read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _discard(self, limit: int) -> None:
        """Read on for a while: a connection closed over unread bytes would lose the answer."""
        discarded = 0
        try:
            async with asyncio.timeout(_DISCARD_SECONDS):
                while discarded < limit:
                    message = await self._message()
                    discarded += len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return
        except TimeoutError:
            return


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


def _clean_id(value: bytes) -> bytes:
    """Return a client's request id if it is safe to repeat in headers and logs, else nothing."""
    printable = value.isascii() and value.decode("latin-1").isprintable()
    return value if printable and len(value) <= _MAX_REQUEST_ID else b""

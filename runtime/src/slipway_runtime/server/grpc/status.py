"""How calls end: gRPC's codes, the one mapping from errors to them, and their form on the wire."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from slipway_runtime.errors import (
    BadRequest,
    BodyTooLarge,
    DeadlineExceeded,
    NotReady,
    NotSupported,
    ProtocolViolation,
    QueueFull,
    RequestError,
    Unauthorized,
    UnknownResource,
    UnsupportedMediaType,
)
from slipway_runtime.http2.headers import encode

_PUSHBACK: Final = b"grpc-retry-pushback-ms"
_PRINTABLE: Final = frozenset(range(0x20, 0x7F)) - {ord("%")}
_SECONDS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_MOST_DIGITS: Final = 8
# Clients take some 8 KiB of metadata, and a header block of ours is one frame.
_MOST_MESSAGE_BYTES: Final = 1500
_CUT: Final = b" ..."


class Code(IntEnum):
    """The status codes of gRPC."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


_CODES: Final[dict[type[RequestError], Code]] = {
    BadRequest: Code.INVALID_ARGUMENT,
    ProtocolViolation: Code.INTERNAL,
    BodyTooLarge: Code.RESOURCE_EXHAUSTED,
    Unauthorized: Code.UNAUTHENTICATED,
    UnknownResource: Code.NOT_FOUND,
    NotSupported: Code.UNIMPLEMENTED,
    UnsupportedMediaType: Code.UNIMPLEMENTED,
    QueueFull: Code.RESOURCE_EXHAUSTED,
    NotReady: Code.UNAVAILABLE,
    DeadlineExceeded: Code.DEADLINE_EXCEEDED,
}

Fields = tuple[tuple[bytes, bytes], ...]


def code_of(error: RequestError) -> Code:
    """Return the code of an error."""
    return _CODES.get(type(error), Code.INTERNAL)


def trailers(code: Code, message: str, more: Fields = (), retry_after: int | None = None) -> bytes:
    """Return the header block that ends a call; ``retry_after`` is in seconds."""
    fields = [(b"grpc-status", b"%d" % code), *more]
    if message:
        fields.append((b"grpc-message", _escaped(message)))
    if retry_after is not None:
        fields.append((_PUSHBACK, b"%d" % (retry_after * 1000)))
    return encode(fields)


def timeout_of(value: bytes) -> float:
    """Return the seconds of a `grpc-timeout`.

    Raises:
        BadRequest: it is none.
    """
    number, unit = value[:-1], value[-1:]
    if not number.isdigit() or len(number) > _MOST_DIGITS or unit not in _SECONDS:
        shown = value.decode("latin-1")[:50]
        raise BadRequest(f"grpc-timeout must be up to 8 digits and one of HMSmun, got {shown!r}")
    return int(number) * _SECONDS[unit]


def _escaped(message: str) -> bytes:
    """Return a message as a header field has it, cut where a client would not take it whole."""
    escaped = bytearray()
    for character in message:
        coded = b"".join(
            bytes((octet,)) if octet in _PRINTABLE else b"%%%02X" % octet
            for octet in character.encode("utf-8", "replace")
        )
        if len(escaped) + len(coded) > _MOST_MESSAGE_BYTES:
            return bytes(escaped + _CUT)
        escaped += coded
    return bytes(escaped)

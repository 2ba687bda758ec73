"""Messages of a call: each behind a byte that tells whether it is compressed, and its length."""

from __future__ import annotations

import asyncio
from struct import Struct
from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError

from slipway_runtime.errors import (
    BadRequest,
    BodyTooLarge,
    ProtocolViolation,
    UnsupportedMediaType,
)
from slipway_runtime.server.compression import INLINE_BYTES, inflate

ENCODINGS: Final = (b"identity", b"gzip", b"deflate")

_PREFIX: Final = Struct(">BL")
_PREFIX_BYTES: Final = _PREFIX.size
_SMALL_BYTES: Final = 1024

_pack = _PREFIX.pack
_unpack = _PREFIX.unpack_from


class Packed(NamedTuple):
    """A message as it came."""

    compressed: int
    data: bytes


def pack(message: bytes) -> bytes:
    """Return a message as it goes out."""
    return _pack(0, len(message)) + message


class Assembler:
    """Puts messages together, of at most ``limit`` bytes each."""

    __slots__ = ("_at", "_data", "_encoding", "_have", "_limit", "_need", "_parts")

    def __init__(self, encoding: bytes, limit: int) -> None:
        if encoding not in ENCODINGS:
            raise UnsupportedMediaType(
                f"messages compressed as {encoding.decode('latin-1')[:50]!r} are not understood:"
                " send gzip, deflate or identity"
            )
        self._encoding = encoding
        self._limit = limit
        # What has come and was not taken: `_data` from `_at` on, and then the parts.
        self._data = b""
        self._at = 0
        self._parts: list[bytes | bytearray] = []
        self._have = 0
        self._need = _PREFIX_BYTES

    @property
    def empty(self) -> bool:
        """Whether nothing is left of what has come."""
        return not self._have

    @property
    def pending(self) -> int:
        """How many bytes have come and were not taken."""
        return self._have

    @property
    def ready(self) -> bool:
        """Whether a message may be complete, as far as is known before it is taken."""
        return self._have >= self._need

    def add(self, data: bytes) -> None:
        """Take data in."""
        self._have += len(data)
        parts = self._parts
        if len(data) > _SMALL_BYTES or not parts:
            parts.append(data)
        elif isinstance(parts[-1], bytearray):
            parts[-1] += data
        else:  # An object for each of a million small parts would take much more than they.
            parts.append(bytearray(data))

    def take(self) -> Packed | None:
        """Return the next message, if it is complete.

        Raises:
            BodyTooLarge: it says that it is larger than the limit.
        """
        if self._have < self._need:
            return None
        if self._parts:
            rest = self._data[self._at :]
            self._data = b"".join((rest, *self._parts)) if rest else b"".join(self._parts)
            self._at = 0
            self._parts.clear()
        begin = self._at + _PREFIX_BYTES
        compressed, length = _unpack(self._data, self._at)
        if length > self._limit:
            raise BodyTooLarge(
                f"the message of {length} bytes is larger than max. {self._limit} bytes"
            )
        if self._have < _PREFIX_BYTES + length:
            self._need = _PREFIX_BYTES + length
            return None
        self._at = begin + length
        message = Packed(compressed, self._data[begin : self._at])
        self._need = _PREFIX_BYTES
        self._have -= _PREFIX_BYTES + length
        if not self._have:
            self._data, self._at = b"", 0
        return message

    async def inflated(self, packed: Packed) -> bytes:
        """Return what a message holds.

        Raises:
            BadRequest: it cannot be inflated.
            BodyTooLarge: it is inflated to more than the limit.
            ProtocolViolation: it says that it is compressed, and the call does not say how.
        """
        data = packed.data
        if not packed.compressed:
            return data
        if packed.compressed != 1 or self._encoding == b"identity":
            raise ProtocolViolation("a compressed message without a grpc-encoding")
        if len(data) < INLINE_BYTES:
            return inflate(self._encoding, data, self._limit)
        return await asyncio.to_thread(inflate, self._encoding, data, self._limit)


def parse(kind: Any, data: bytes) -> Any:
    """Return a message of that kind.

    Raises:
        BadRequest: it is none.
    """
    try:
        return kind.FromString(data)
    except DecodeError:
        raise BadRequest(f"the message is no {kind.DESCRIPTOR.full_name}") from None

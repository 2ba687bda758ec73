"""Messages of a call: each behind a byte that tells whether it is compressed, and its length."""

from __future__ import annotations

import asyncio
from struct import Struct
from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError

from slipway_runtime.errors import BadRequest, BodyTooLarge, UnsupportedMediaType
from slipway_runtime.server.compression import inflate

ENCODINGS: Final = (b"identity", b"gzip", b"deflate")

_PREFIX: Final = Struct(">BL")
_PREFIX_BYTES: Final = _PREFIX.size
_INLINE_BYTES: Final = 64 * 1024

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

    __slots__ = ("_encoding", "_have", "_limit", "_need", "_parts")

    def __init__(self, encoding: bytes, limit: int) -> None:
        if encoding not in ENCODINGS:
            raise UnsupportedMediaType(
                f"messages compressed as {encoding.decode('latin-1')[:50]!r} are not understood:"
                " send gzip, deflate or identity"
            )
        self._encoding = encoding
        self._limit = limit
        self._parts: list[bytes] = []
        self._have = 0
        self._need = _PREFIX_BYTES

    @property
    def between(self) -> bool:
        """Whether no message has begun that is not complete."""
        return not self._have

    def feed(self, data: bytes) -> list[Packed]:
        """Take data in; return the messages that are complete by now.

        Raises:
            BodyTooLarge: a message says that it is larger than the limit.
        """
        size = self._have + len(data)
        if size < self._need:
            self._parts.append(data)
            self._have = size
            return []
        if self._parts:
            data = b"".join((*self._parts, data))
            self._parts.clear()
        messages: list[Packed] = []
        position = 0
        while size - position >= _PREFIX_BYTES:
            compressed, length = _unpack(data, position)
            if length > self._limit:
                raise BodyTooLarge(
                    f"the message of {length} bytes is larger than max. {self._limit} bytes"
                )
            end = position + _PREFIX_BYTES + length
            if end > size:
                self._need = end - position
                break
            messages.append(Packed(compressed, data[position + _PREFIX_BYTES : end]))
            position = end
            self._need = _PREFIX_BYTES
        self._have = size - position
        if self._have:
            self._parts.append(data[position:] if position else data)
        return messages

    async def decode(self, kind: Any, packed: Packed) -> Any:
        """Return a message of that kind.

        Raises:
            BadRequest: it is none.
            BodyTooLarge: it is inflated to more than the limit.
        """
        data = packed.data
        if packed.compressed:
            if packed.compressed != 1 or self._encoding == b"identity":
                raise BadRequest("a compressed message without a grpc-encoding")
            if len(data) < _INLINE_BYTES:
                data = inflate(self._encoding, data, self._limit)
            else:
                data = await asyncio.to_thread(inflate, self._encoding, data, self._limit)
        try:
            return kind.FromString(data)
        except DecodeError:
            raise BadRequest(f"the message is no {kind.DESCRIPTOR.full_name}") from None

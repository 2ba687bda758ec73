"""gzip and deflate, both ways; what is inflated is bounded."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final

from slipway_runtime.errors import BadRequest, BodyTooLarge, UnsupportedMediaType

_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
# What may be inflated on the event loop: it grows a thousandfold at most, which takes some 5 ms.
INLINE_BYTES: Final = 2 * 1024
# Of each stream these are given to zlib, which copies what it has not used of them.
_LEAST_PIECE: Final = 512
_LARGEST_PIECE: Final = 256 * 1024
_FAST: Final = 1
_ENCODINGS: Final = (b"gzip", b"deflate")


def inflate(encoding: bytes, data: bytes, limit: int) -> bytes:
    """Return the plain body of at most ``limit`` bytes.

    Raises:
        UnsupportedMediaType: the encoding is neither gzip nor deflate.
        BadRequest: the data are not of that encoding, or end early.
        BodyTooLarge: there would be more.
    """
    if encoding in (b"gzip", b"x-gzip"):
        window = _GZIP_WINDOW
    elif encoding == b"deflate":
        window = zlib.MAX_WBITS if _has_zlib_header(data) else -zlib.MAX_WBITS
    else:
        raise UnsupportedMediaType(
            f"the content encoding {encoding.decode('latin-1')[:100]!r} is not supported: send the"
            " body as gzip, deflate or uncompressed"
        )
    plain, view, position = bytearray(), memoryview(data), 0
    while position < len(data) or not position:
        stream, size = zlib.decompressobj(window), _LEAST_PIECE
        while not stream.eof:
            piece = view[position : position + size]
            if not piece:
                raise BadRequest(f"the body ends before its {encoding.decode()} stream does")
            try:
                plain += stream.decompress(piece, limit - len(plain) + 1)
            except zlib.error as error:
                raise BadRequest(f"the body is not {encoding.decode()}: {error}") from None
            if len(plain) > limit:
                raise BodyTooLarge(f"the inflated body is larger than the limit of {limit} bytes")
            position += len(piece)
            size = min(4 * size, _LARGEST_PIECE)
        # A gzip file may be several streams, one behind the other.
        position -= len(stream.unused_data)
        if position < len(data) and window != _GZIP_WINDOW:
            left = len(data) - position
            raise BadRequest(f"{left} bytes follow the {encoding.decode()} stream")
    return bytes(plain)


def acceptable(header: bytes) -> bytes:
    """Return the encoding that an Accept-Encoding header likes best, of those offered, or none."""
    best, best_quality = b"", 0.0
    for item in header.lower().split(b","):
        name, *parameters = (part.strip() for part in item.split(b";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith(b"q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        if name in _ENCODINGS and quality > best_quality:
            best, best_quality = name, quality
    return best


def deflate(encoding: bytes, parts: Sequence[bytes | memoryview]) -> bytes:
    """Return the parts compressed, fast rather than small."""
    window = _GZIP_WINDOW if encoding == b"gzip" else zlib.MAX_WBITS
    stream = zlib.compressobj(_FAST, wbits=window)
    return b"".join([*(stream.compress(part) for part in parts), stream.flush()])


def _has_zlib_header(data: bytes) -> bool:
    """Return whether deflate comes as HTTP defines it; some clients send the bare stream."""
    return len(data) > 1 and data[0] & 0x0F == zlib.DEFLATED and (data[0] << 8 | data[1]) % 31 == 0

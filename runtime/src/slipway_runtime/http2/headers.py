"""Fields of a request, decoded and checked (RFC 9113, 8.2 and 8.3), and of an answer, encoded.

A client's requests hardly differ, so most of their blocks are the same bytes: references to the
dynamic table. What a block means is remembered for as long as that table stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from hpack import Decoder, HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

from slipway_runtime.http2.errors import ConnectionFailedError, ErrorCode, StreamFailedError

MOST_LIST_BYTES: Final = 16 * 1024

_REMEMBERED_BLOCKS: Final = 16
_REMEMBERED_BYTES: Final = 4096
_PSEUDO: Final = (b":method", b":scheme", b":path", b":authority")
_OF_HTTP_1: Final = (
    b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade",
)  # fmt: skip
# RFC 9113, 8.2.1: no control characters, no space, no upper case; a colon at the start alone.
_NAME: Final = re.compile(rb":?[^\x00-\x20A-Z:\x7f-\xff]+").fullmatch
_BAD_VALUE: Final = re.compile(rb"[\x00\r\n]|\A[ \t]|[ \t]\Z").search
_MAX_DIGITS: Final = 18
# RFC 7541, 6: the first bits of a block that begins with an update of the table's size.
_SIZE_UPDATE: Final = (0xE0, 0x20)
# A literal that is not indexed, with a name of its own; its lengths are numbers of 7 bits and on.
_LITERAL: Final = b"\x00"
_SEVEN_BITS: Final = 0x7F


class Request(NamedTuple):
    """The head of a request; a field that came more than once has its values joined by commas."""

    method: bytes
    path: bytes
    fields: dict[bytes, bytes]
    content_length: int | None


class _Table(HeaderTable):
    """A dynamic table that counts what is added."""

    def __init__(self) -> None:
        super().__init__()
        self.added = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.added += 1
        super().add(name, value)


class HeaderDecoder:
    """Decodes the header blocks of one connection, in their order."""

    def __init__(self) -> None:
        self._decoder = Decoder(MOST_LIST_BYTES)
        self._decoder.header_table = self._table = _Table()
        self._remembered: dict[bytes, Request] = {}

    def request(self, block: bytes) -> Request:
        """Decode and check the head of a request.

        Raises:
            ConnectionFailedError: it is no header block, or too large a one.
            StreamFailedError: it is malformed as a request.
        """
        known = self._remembered.get(block)
        if known is not None:
            return known
        added = self._table.added
        fields = self._decode(block)
        resizes = block[:1] and block[0] & _SIZE_UPDATE[0] == _SIZE_UPDATE[1]
        if resizes or added != self._table.added or len(self._remembered) >= _REMEMBERED_BLOCKS:
            self._remembered.clear()
        request = _request(fields)
        size = len(block) + sum(len(name) + len(value) for name, value in fields)
        if not resizes and added == self._table.added and size <= _REMEMBERED_BYTES:
            self._remembered[block] = request
        return request

    def trailers(self, block: bytes) -> None:
        """Decode and check fields behind a body; nothing in them is of use.

        Raises:
            ConnectionFailedError: it is no header block, or too large a one.
            StreamFailedError: they are malformed.
        """
        self._remembered.clear()
        for name, value in self._decode(block):
            _check(name, value)
            if name.startswith(b":"):
                raise StreamFailedError(
                    ErrorCode.PROTOCOL_ERROR, "a pseudo-header field behind the body"
                )

    def skip(self, block: bytes) -> None:
        """Decode a block of a stream that is no more: the table has to keep up.

        Raises:
            ConnectionFailedError: it is no header block, or too large a one.
        """
        self._remembered.clear()
        self._decode(block)

    def _decode(self, block: bytes) -> list[tuple[bytes, bytes]]:
        try:
            return [(name, value) for name, value in self._decoder.decode(block, raw=True)]
        except OversizedHeaderListError:
            raise ConnectionFailedError(
                ErrorCode.ENHANCE_YOUR_CALM, f"headers of more than {MOST_LIST_BYTES} bytes"
            ) from None
        except (HPACKError, IndexError, ValueError) as error:
            raise ConnectionFailedError(
                ErrorCode.COMPRESSION_ERROR, f"this is no header block: {type(error).__name__}"
            ) from None


def _check(name: bytes, value: bytes) -> None:
    if not _NAME(name) or _BAD_VALUE(value):
        raise StreamFailedError(ErrorCode.PROTOCOL_ERROR, "a malformed header field")
    if name in _OF_HTTP_1 or (name == b"te" and value.lower() != b"trailers"):
        raise StreamFailedError(ErrorCode.PROTOCOL_ERROR, "a header field of HTTP/1.1")


def _request(pairs: Iterable[tuple[bytes, bytes]]) -> Request:
    pseudo: dict[bytes, bytes] = {}
    fields: dict[bytes, bytes] = {}
    for name, value in pairs:
        _check(name, value)
        if not name.startswith(b":"):
            fields[name] = fields[name] + b"," + value if name in fields else value
        elif fields or name not in _PSEUDO or name in pseudo:
            raise StreamFailedError(
                ErrorCode.PROTOCOL_ERROR, "a pseudo-header field where none may be"
            )
        else:
            pseudo[name] = value
    if not pseudo.get(b":path") or b":method" not in pseudo or b":scheme" not in pseudo:
        raise StreamFailedError(ErrorCode.PROTOCOL_ERROR, "a pseudo-header field is missing")
    length = fields.get(b"content-length")
    if length is not None and (not length.isdigit() or len(length) > _MAX_DIGITS):
        raise StreamFailedError(ErrorCode.PROTOCOL_ERROR, "a content length that is no number")
    return Request(
        pseudo[b":method"], pseudo[b":path"], fields, None if length is None else int(length)
    )


def encode(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return a header block that needs nothing of the dynamic table and leaves it as it is."""
    return b"".join(_LITERAL + _string(name) + _string(value) for name, value in fields)


def _string(value: bytes) -> bytes:
    rest = len(value) - _SEVEN_BITS
    if rest < 0:
        return bytes((len(value),)) + value
    coded = [_SEVEN_BITS]
    while rest > _SEVEN_BITS:
        coded.append(rest & _SEVEN_BITS | 0x80)
        rest >>= 7
    coded.append(rest)
    return bytes(coded) + value

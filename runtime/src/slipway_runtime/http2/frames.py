"""Frames (RFC 9113, 4 and 6): their numbers, and how those that a server sends are built."""

from __future__ import annotations

from struct import Struct
from typing import Final

from slipway_runtime.http2.errors import ErrorCode

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES: Final = 9

DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

HEADER_TABLE_SIZE: Final = 0x1
ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5
MAX_HEADER_LIST_SIZE: Final = 0x6

DEFAULT_WINDOW: Final = 65_535
MOST_WINDOW: Final = 0x7FFF_FFFF
LEAST_FRAME_SIZE: Final = 16_384
MOST_FRAME_SIZE: Final = 0xFF_FFFF
LAST_STREAM: Final = 0x7FFF_FFFF

# Length (24 bits, as 16 and 8), type, flags, stream.
HEAD: Final = Struct(">HBBBL")
NUMBER: Final = Struct(">L")
SETTING: Final = Struct(">HL")
_GOAWAY: Final = Struct(">LL")

_pack = HEAD.pack


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return one frame."""
    length = len(payload)
    return _pack(length >> 8, length & 0xFF, kind, flags, stream) + payload


def head(kind: int, flags: int, stream: int, length: int) -> bytes:
    """Return the head of a frame whose payload of so many bytes follows."""
    return _pack(length >> 8, length & 0xFF, kind, flags, stream)


def settings(values: dict[int, int]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(*pair) for pair in values.items()))


def window_update(stream: int, increment: int) -> bytes:
    """Return a WINDOW_UPDATE frame; stream 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, stream, NUMBER.pack(increment))


def rst_stream(stream: int, code: ErrorCode) -> bytes:
    """Return a RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, NUMBER.pack(code))


def goaway(last: int, code: ErrorCode, message: str = "") -> bytes:
    """Return a GOAWAY frame: streams after ``last`` are not answered."""
    return frame(GOAWAY, 0, 0, _GOAWAY.pack(last, code) + message.encode())


SETTINGS_ACK: Final = frame(SETTINGS, ACK, 0)

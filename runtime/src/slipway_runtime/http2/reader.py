"""What a client sends, split into frames (RFC 9113, 3.4 and 4.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from slipway_runtime.http2 import frames
from slipway_runtime.http2.errors import ConnectionFailedError, ErrorCode

FRAME_SIZE: Final = 256 * 1024

# Where in a frame its kind is.
_KIND_AT: Final = 3
_unpack_head = frames.HEAD.unpack_from

Handle = Callable[[int, int, int, bytes], None]


class FrameReader:
    """Keeps what is not a whole frame until the rest has come.

    ``frames`` counts the complete ones.
    """

    def __init__(self) -> None:
        self.frames = 0
        self._introduced = False
        # A frame that is not complete, and how much is missing of it.
        self._rest = bytearray()
        self._missing = 1

    @property
    def awaits_head(self) -> bool:
        """Whether a frame has begun that is none of DATA."""
        return len(self._rest) > _KIND_AT and self._rest[_KIND_AT] != frames.DATA

    def feed(self, data: bytes, handle: Handle) -> None:
        """Take in what has come, and hand over each complete frame: kind, flags, stream, payload.

        Raises:
            ConnectionFailedError: this is not HTTP/2, or a frame is larger than allowed. What has
                come is dropped then, and also when ``handle`` raises.
        """
        if len(data) < self._missing:
            self._rest += data
            self._missing -= len(data)
            return
        if self._rest:
            data = b"".join((self._rest, data))
            self._rest = bytearray()
        position, size = 0, len(data)
        if not self._introduced:
            preface = frames.PREFACE
            if data[: len(preface)] != preface[:size]:
                raise ConnectionFailedError(ErrorCode.PROTOCOL_ERROR, "this is not HTTP/2")
            if size < len(preface):
                self._wait(data, 1)
                return
            self._introduced = True
            position = len(preface)
        while size - position >= frames.HEAD_BYTES:
            high, low, kind, flags, number = _unpack_head(data, position)
            length = high << 8 | low
            if length > FRAME_SIZE:
                raise ConnectionFailedError(
                    ErrorCode.FRAME_SIZE_ERROR, f"a frame of more than {FRAME_SIZE} bytes"
                )
            end = position + frames.HEAD_BYTES + length
            if end > size:
                self._wait(data[position:], end - size)
                return
            self.frames += 1
            payload = data[position + frames.HEAD_BYTES : end]
            handle(kind, flags, number & frames.LAST_STREAM, payload)
            position = end
        self._wait(data[position:], 1)

    def _wait(self, rest: bytes, missing: int) -> None:
        self._rest = bytearray(rest)
        self._missing = missing

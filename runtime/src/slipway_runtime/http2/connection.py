"""One client's connection: frames to calls of receivers, and what they answer to frames.

Floods are bounded: by the size of a header block and the number of its frames, by the streams that
may be open at once, and by how often a client may make a stream end before it is answered (the
figures for this are nghttp2's). That a client takes in nothing of what it asks for is its owner's
matter, who sees how much waits to be sent.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import ClassVar, Final

from slipway_runtime.http2 import frames
from slipway_runtime.http2.errors import ConnectionFailedError, ErrorCode, StreamFailedError
from slipway_runtime.http2.headers import MOST_LIST_BYTES, HeaderDecoder, Request
from slipway_runtime.http2.outgoing import Outgoing
from slipway_runtime.http2.reader import FRAME_SIZE, FrameReader
from slipway_runtime.http2.stream import STREAM_WINDOW, Receiver, Stream

MOST_STREAMS: Final = 128
CONNECTION_WINDOW: Final = 8 * 1024 * 1024

_OUR_SETTINGS: Final = frames.settings(
    {
        frames.MAX_CONCURRENT_STREAMS: MOST_STREAMS,
        frames.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
        frames.MAX_FRAME_SIZE: FRAME_SIZE,
        frames.MAX_HEADER_LIST_SIZE: MOST_LIST_BYTES,
    }
) + frames.window_update(0, CONNECTION_WINDOW - frames.DEFAULT_WINDOW)
_MOST_BLOCK_BYTES: Final = 2 * MOST_LIST_BYTES
_MOST_BLOCK_FRAMES: Final = 16
# How many streams a client may cause to end before their answer: at once, and per second.
_RESETS: Final = 1000
_RESETS_A_SECOND: Final = 33
_REMEMBERED_RESETS: Final = 256
_REMEMBERED_GAPS: Final = 256
_PING_BYTES: Final = 8
_PRIORITY_BYTES: Final = 5
_OUR_PING: Final = b"goodbye!"

Accept = Callable[[Stream, Request], Receiver]


class Http2Connection:
    """The server's side of one connection.

    ``accept`` is asked for each request and returns who takes in its body. ``wake`` is called when
    there is something to send that was not asked for from within `receive`.
    """

    def __init__(
        self,
        accept: Accept,
        wake: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.outgoing = Outgoing(wake)
        self._accept = accept
        self._clock = clock
        self._decoder = HeaderDecoder()
        self.streams: dict[int, Stream] = {}
        self.last = 0
        self._stream_window = frames.DEFAULT_WINDOW
        self._pumps = False
        self._reader = FrameReader()
        self._settled = False
        self._room = CONNECTION_WINDOW
        self._owed = 0
        self._block: list[bytes] | None = None
        self._block_head = (0, 0, False)
        self._gaps: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED_GAPS)
        self._were_reset: deque[int] = deque(maxlen=_REMEMBERED_RESETS)
        self._resets = 0.0
        self._resets_at = clock()
        # Ending.
        self.failure: ConnectionFailedError | None = None
        self.leaving = False
        self._left = False
        self.outgoing.send(_OUR_SETTINGS)

    # For the owner.

    @property
    def awaits_head(self) -> bool:
        """Whether the client has begun something that is not even a whole request's head."""
        if not self._settled or self._block is not None:
            return True
        return self._reader.awaits_head

    @property
    def frames_received(self) -> int:
        """How many frames have come."""
        return self._reader.frames

    @property
    def over(self) -> bool:
        """Whether the connection is to be closed once everything is sent."""
        return self.failure is not None or (self._left and not self.streams)

    def receive(self, data: bytes) -> None:
        """Take in what the client has sent."""
        if self.failure is not None:
            return
        self.outgoing.gathering = True
        try:
            self._reader.feed(data, self._frame)
            if self._pumps:
                self._pumps = False
                self.outgoing.pump()
        except ConnectionFailedError as failure:
            self.fail(failure)
        finally:
            self.outgoing.gathering = False

    def fail(self, failure: ConnectionFailedError) -> None:
        """Give the connection up, and tell the client why."""
        if self.failure is None:
            self.failure = failure
            self.outgoing.send(frames.goaway(self.last, failure.code, failure.message))
            self.lose()

    def lose(self) -> None:
        """Note that the client is gone, for all streams."""
        streams = list(self.streams.values())
        self.streams.clear()
        self.outgoing.lose()
        for stream in streams:
            stream.close()

    def leave(self) -> None:
        """Ask the client to open no more streams; those under way before it knows are answered."""
        if not self.leaving and self.failure is None:
            self.leaving = True
            goaway = frames.goaway(frames.LAST_STREAM, ErrorCode.NO_ERROR)
            self.outgoing.send(goaway, frames.frame(frames.PING, 0, 0, _OUR_PING))

    def leave_now(self) -> None:
        """Take no more streams."""
        if not self._left and self.failure is None:
            self.leaving = self._left = True
            self.outgoing.send(frames.goaway(self.last, ErrorCode.NO_ERROR))

    # For streams.

    def ended(self, stream: Stream) -> None:
        """A stream is over; what a client that has not ended it still sends is ignored."""
        self.streams.pop(stream.number, None)
        self.outgoing.ended(stream)
        if not stream.complete:
            self._were_reset.append(stream.number)

    def reset(self, number: int, code: ErrorCode) -> None:
        """Break a stream off; what the client still sends on it is ignored."""
        stream = self.streams.pop(number, None)
        if stream is not None:
            stream.open = False
            self.outgoing.forget(stream)
        self._were_reset.append(number)
        self.outgoing.send(frames.rst_stream(number, code))

    # Frames.

    def _frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if self._block is not None and kind != frames.CONTINUATION:
            raise _violation("a header block is not complete")
        if not self._settled:
            if kind != frames.SETTINGS or flags & frames.ACK:
                raise _violation("the first frame must be SETTINGS")
            self._settled = True
        handle = self._handlers.get(kind)
        if handle is None:
            return  # Frames of unknown kinds are to be ignored.
        try:
            handle(self, flags, number, payload)
        except StreamFailedError as failure:
            self._stream_failed(number, failure)

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        length = len(payload)
        self._room -= length
        if self._room < 0:
            raise ConnectionFailedError(ErrorCode.FLOW_CONTROL_ERROR, "more data than allowed")
        self._owed += length
        if self._owed >= CONNECTION_WINDOW // 2:
            self._room += self._owed
            self.outgoing.send(frames.window_update(0, self._owed))
            self._owed = 0
        if flags & frames.PADDED:
            payload = _unpadded(payload)
        stream = self.streams.get(number)
        if stream is None:
            self._check_opened(number, "DATA")
            if number <= self.last and number not in self._were_reset:
                raise StreamFailedError(ErrorCode.STREAM_CLOSED, "data on a closed stream")
            return
        stream.receive(payload, length, complete=bool(flags & frames.END_STREAM))

    def _headers(self, flags: int, number: int, payload: bytes) -> None:
        if not number & 1:
            raise _violation("HEADERS on a stream that is not the client's")
        if flags & frames.PADDED:
            payload = _unpadded(payload)
        own_parent = False
        if flags & frames.WITH_PRIORITY:
            if len(payload) < _PRIORITY_BYTES:
                raise ConnectionFailedError(ErrorCode.FRAME_SIZE_ERROR, "HEADERS cut short")
            own_parent = _parent(payload) == number
            payload = payload[_PRIORITY_BYTES:]
        if flags & frames.END_HEADERS:
            self._head(number, flags, payload, own_parent=own_parent)
        else:
            self._block = [payload]
            self._block_head = (number, flags, own_parent)

    def _continuation(self, flags: int, number: int, payload: bytes) -> None:
        block = self._block
        begun, first_flags, own_parent = self._block_head
        if block is None or number != begun:
            raise _violation("CONTINUATION of nothing")
        block.append(payload)
        if len(block) > _MOST_BLOCK_FRAMES or sum(map(len, block)) > _MOST_BLOCK_BYTES:
            raise ConnectionFailedError(ErrorCode.ENHANCE_YOUR_CALM, "headers without end")
        if flags & frames.END_HEADERS:
            self._block = None
            self._head(number, first_flags, b"".join(block), own_parent=own_parent)

    def _head(self, number: int, flags: int, block: bytes, *, own_parent: bool) -> None:
        """A header block is complete: a request begins, or its body has ended with trailers."""
        if len(block) > _MOST_BLOCK_BYTES:
            raise ConnectionFailedError(ErrorCode.ENHANCE_YOUR_CALM, "too long a header block")
        complete = bool(flags & frames.END_STREAM)
        stream = self.streams.get(number)
        if stream is not None:
            self._trailers(stream, block, complete=complete)
            return
        if number <= self.last:
            self._decoder.skip(block)
            if number in self._were_reset:
                return
            if any(below < number < above for below, above in self._gaps):
                raise _violation("streams must be opened in their order")
            raise ConnectionFailedError(ErrorCode.STREAM_CLOSED, "headers on a closed stream")
        if self._left:
            self._decoder.skip(block)
            return
        if number > self.last + 2:
            self._gaps.append((self.last, number))
        self.last = number
        request = self._decoder.request(block)
        if own_parent:
            raise StreamFailedError(ErrorCode.PROTOCOL_ERROR, "a stream that depends on itself")
        if len(self.streams) >= MOST_STREAMS:
            raise StreamFailedError(ErrorCode.REFUSED_STREAM, "too many streams at once")
        stream = Stream(self, number, request, self._stream_window)
        self.streams[number] = stream
        receiver = self._accept(stream, request)
        if stream.open:
            stream.receiver = receiver
            if complete:
                stream.receive(b"", 0, complete=True)

    def _trailers(self, stream: Stream, block: bytes, *, complete: bool) -> None:
        if stream.complete:
            self._decoder.skip(block)
            raise StreamFailedError(ErrorCode.STREAM_CLOSED, "headers behind a request")
        self._decoder.trailers(block)
        if not complete:
            raise StreamFailedError(ErrorCode.PROTOCOL_ERROR, "a second head of a request")
        stream.receive(b"", 0, complete=True)

    def _rst_stream(self, _flags: int, number: int, payload: bytes) -> None:
        if len(payload) != frames.NUMBER.size:
            raise ConnectionFailedError(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM of a wrong size")
        self._check_opened(number, "RST_STREAM")
        stream = self.streams.pop(number, None)
        if stream is not None:
            self.outgoing.forget(stream)
            stream.close()
            self._count_reset()

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise _violation("SETTINGS on a stream")
        if len(payload) % frames.SETTING.size or (flags & frames.ACK and payload):
            raise ConnectionFailedError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of a wrong size")
        if flags & frames.ACK:
            return
        window = self._stream_window
        for name, value in frames.SETTING.iter_unpack(payload):
            if name == frames.INITIAL_WINDOW_SIZE:
                if value > frames.MOST_WINDOW:
                    raise _overflow()
                window = value
            elif name == frames.MAX_FRAME_SIZE:
                if not frames.LEAST_FRAME_SIZE <= value <= frames.MOST_FRAME_SIZE:
                    raise _violation("MAX_FRAME_SIZE out of range")
                self.outgoing.frame_size = min(value, FRAME_SIZE)
            elif name == frames.ENABLE_PUSH and value > 1:
                raise _violation("ENABLE_PUSH out of range")
        if window != self._stream_window:
            self._resize(window)
        self.outgoing.send(frames.SETTINGS_ACK)
        self._pumps = True

    def _resize(self, window: int) -> None:
        change = window - self._stream_window
        self._stream_window = window
        for stream in self.streams.values():
            stream.window += change
            if stream.window > frames.MOST_WINDOW:
                raise _overflow()

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise _violation("PING on a stream")
        if len(payload) != _PING_BYTES:
            raise ConnectionFailedError(ErrorCode.FRAME_SIZE_ERROR, "PING of a wrong size")
        if not flags & frames.ACK:
            self.outgoing.send(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif payload == _OUR_PING and self.leaving:
            self.leave_now()

    def _window_update(self, _flags: int, number: int, payload: bytes) -> None:
        if len(payload) != frames.NUMBER.size:
            raise ConnectionFailedError(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE cut short")
        increment = frames.NUMBER.unpack(payload)[0] & frames.MOST_WINDOW
        if not number:
            if not increment:
                raise _violation("WINDOW_UPDATE by nothing")
            self.outgoing.window += increment
            if self.outgoing.window > frames.MOST_WINDOW:
                raise _overflow()
        else:
            stream = self.streams.get(number)
            if stream is None:
                self._check_opened(number, "WINDOW_UPDATE")
                return
            if not increment:
                raise StreamFailedError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
            stream.window += increment
            if stream.window > frames.MOST_WINDOW:
                raise StreamFailedError(ErrorCode.FLOW_CONTROL_ERROR, "a window out of range")
        # Once for all that has come with it: a client may send a great many.
        self._pumps = True

    def _priority(self, _flags: int, number: int, payload: bytes) -> None:
        """Check a PRIORITY frame, which has no effect."""
        if not number:
            raise _violation("PRIORITY on the connection")
        if len(payload) != _PRIORITY_BYTES:
            raise StreamFailedError(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY of a wrong size")
        if _parent(payload) == number:
            raise StreamFailedError(ErrorCode.PROTOCOL_ERROR, "a stream that depends on itself")

    def _goaway(self, _flags: int, number: int, _payload: bytes) -> None:
        if number:
            raise _violation("GOAWAY on a stream")
        self.leave_now()

    def _push_promise(self, _flags: int, _number: int, _payload: bytes) -> None:
        raise _violation("a client cannot push")

    def _stream_failed(self, number: int, failure: StreamFailedError) -> None:
        stream = self.streams.get(number)
        self.reset(number, failure.code)
        if stream is not None:
            stream.close()
        if failure.code != ErrorCode.REFUSED_STREAM:
            self._count_reset()

    def _count_reset(self) -> None:
        """Take note that a stream ended before its answer.

        Raises:
            ConnectionFailedError: the client does that too often.
        """
        now = self._clock()
        left = self._resets - (now - self._resets_at) * _RESETS_A_SECOND
        self._resets_at, self._resets = now, max(left, 0.0) + 1
        if self._resets > _RESETS:
            raise ConnectionFailedError(ErrorCode.ENHANCE_YOUR_CALM, "too many streams were reset")

    def _check_opened(self, number: int, kind: str) -> None:
        """Check that a stream was opened once, or came too late to be."""
        if not number & 1 or (number > self.last and not self._left):
            raise _violation(f"{kind} on a stream that was never opened")

    # Functions, not bound methods: by those the connection would hold itself.
    _handlers: ClassVar[dict[int, Callable[[Http2Connection, int, int, bytes], None]]] = {
        frames.DATA: _data,
        frames.HEADERS: _headers,
        frames.PRIORITY: _priority,
        frames.RST_STREAM: _rst_stream,
        frames.SETTINGS: _settings,
        frames.PUSH_PROMISE: _push_promise,
        frames.PING: _ping,
        frames.GOAWAY: _goaway,
        frames.WINDOW_UPDATE: _window_update,
        frames.CONTINUATION: _continuation,
    }


def _violation(message: str) -> ConnectionFailedError:
    return ConnectionFailedError(ErrorCode.PROTOCOL_ERROR, message)


def _overflow() -> ConnectionFailedError:
    return ConnectionFailedError(ErrorCode.FLOW_CONTROL_ERROR, "a window out of range")


def _unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise _violation("more padding than payload")
    return payload[1 : len(payload) - payload[0]]


def _parent(payload: bytes) -> int:
    return frames.NUMBER.unpack_from(payload)[0] & frames.LAST_STREAM

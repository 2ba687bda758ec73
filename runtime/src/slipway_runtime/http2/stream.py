"""One request and its answer on a connection: the states and windows of a stream (RFC 9113, 5)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from slipway_runtime.http2 import frames
from slipway_runtime.http2.errors import ErrorCode, StreamFailedError

if TYPE_CHECKING:
    from slipway_runtime.http2.connection import Http2Connection
    from slipway_runtime.http2.headers import Request

# What a client may send on a stream before it has to hear that more is welcome.
STREAM_WINDOW: Final = 1024 * 1024

_DATA: Final = frames.DATA
_HEADERS: Final = frames.HEADERS
_END_HEADERS: Final = frames.END_HEADERS
_END: Final = frames.END_HEADERS | frames.END_STREAM
_head = frames.head


class Receiver(Protocol):
    """Takes in what the client sends on a stream. Whatever it raises ends the connection."""

    def received(self, data: bytes, *, complete: bool) -> None:
        """Take a part of the body, and know whether it was the last.

        It says with `Stream.welcome` when the client may send as much again.
        """
        ...

    def lost(self) -> None:
        """Called when nobody waits for the answer any longer."""
        ...

    def drained(self) -> None:
        """Called when everything that was sent has left."""
        ...


class _Nobody:
    """Takes nothing in."""

    def received(self, data: bytes, *, complete: bool) -> None:
        pass

    def lost(self) -> None:
        pass

    def drained(self) -> None:
        pass


# Of a stream that has ended, so that it and its receiver do not hold each other.
NOBODY: Final[Receiver] = _Nobody()


class Stream:
    """One stream; open until both sides have ended, or one has reset it."""

    __slots__ = (
        "_connection",
        "_expected",
        "_outgoing",
        "_owed",
        "_pending",
        "_received",
        "_room",
        "_trailers",
        "complete",
        "number",
        "open",
        "receiver",
        "sent",
        "window",
    )

    def __init__(
        self, connection: Http2Connection, number: int, request: Request, window: int
    ) -> None:
        self.number = number
        self.receiver: Receiver = NOBODY
        self.open = True
        self.complete = False
        # What we may send, and what is held back until we may.
        self.window = window
        self.sent = 0  # of what was held back
        self._pending: deque[memoryview] = deque()
        self._trailers: bytes | None = None
        # What the client may send, and what of it has been used up and not been renewed yet.
        self._room = STREAM_WINDOW
        self._owed = 0
        self._expected = request.content_length
        self._received = 0
        self._connection = connection
        self._outgoing = connection.outgoing

    # What the client sends.

    def receive(self, data: bytes, length: int, *, complete: bool) -> None:
        """Take a DATA frame of ``length`` bytes with its padding, of which ``data`` are left.

        Raises:
            StreamFailedError: there may be none, or not so much.
        """
        if self.complete:
            raise StreamFailedError(ErrorCode.STREAM_CLOSED, "data behind the end of a request")
        self._room -= length
        if self._room < 0:
            raise StreamFailedError(ErrorCode.FLOW_CONTROL_ERROR, "more data than allowed")
        if len(data) != length:
            self.welcome(length - len(data))
        self._received += len(data)
        if complete:
            self.end()
        if data or complete:
            self.receiver.received(data, complete=complete)

    def end(self) -> None:
        """Know that the request is complete.

        Raises:
            StreamFailedError: it is not as long as it said.
        """
        self.complete = True
        if self._expected is not None and self._expected != self._received:
            raise StreamFailedError(ErrorCode.PROTOCOL_ERROR, "not as long as its content-length")

    def welcome(self, length: int) -> None:
        """Let the client send so many bytes more; it hears of them once they are worth a frame."""
        self._owed += length
        if self._owed >= STREAM_WINDOW // 2 and self.open and not self.complete:
            self._room += self._owed
            self._outgoing.send(frames.window_update(self.number, self._owed))
            self._owed = 0

    # What we send.

    @property
    def blocked(self) -> bool:
        """Whether something is held back until the client, or the network, takes more."""
        return bool(self._pending)

    def send(self, fields: bytes | None, data: bytes, trailers: bytes | None) -> None:
        """Send header fields, data and trailers, each if there is one.

        Trailers end the stream, as an empty block does where there are none. What the client's
        windows do not admit is held back, and so are trailers behind it. Behind trailers nothing
        is sent.
        """
        if not self.open or self._trailers is not None:
            return
        outgoing = self._outgoing
        number = self.number
        parts: list[bytes] = []
        if fields is not None:
            fields = outgoing.first_block(fields)
            parts += (_head(_HEADERS, _END_HEADERS, number, len(fields)), fields)
        if data:
            size = len(data)
            if not self._pending and outgoing.admits(size) and size <= self.window:
                outgoing.window -= size
                self.window -= size
                parts += (_head(_DATA, 0, number, size), data)
            else:
                self._pending.append(memoryview(data))
                outgoing.held += size
        if trailers is not None:
            if self._pending:
                self._trailers = trailers
            else:
                if trailers:
                    trailers = outgoing.first_block(trailers)
                    parts += (_head(_HEADERS, _END, number, len(trailers)), trailers)
                else:
                    parts.append(_head(_DATA, frames.END_STREAM, number, 0))
                if not self.complete:
                    parts.append(frames.rst_stream(number, ErrorCode.NO_ERROR))
                self.open = False
                self.receiver = NOBODY
                self._connection.ended(self)
        outgoing.send(*parts)
        if self._pending:
            outgoing.hold(self)

    @property
    def crowded(self) -> bool:
        """Whether so much is held back on the connection that new answers should wait."""
        return self._outgoing.crowded

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call back when the connection is no longer crowded; never if this ends before."""
        self._outgoing.when_room(self, callback)

    def pump(self) -> bool:
        """Send one frame of what was held back, if there is room; return whether there was."""
        outgoing = self._outgoing
        part = self._pending[0]
        size = min(len(part), self.window, outgoing.window, outgoing.frame_size)
        if size <= 0:
            return False
        outgoing.window -= size
        outgoing.held -= size
        self.window -= size
        self.sent += size
        outgoing.send(_head(_DATA, 0, self.number, size), part[:size])
        if size < len(part):
            self._pending[0] = part[size:]
            return True
        self._pending.popleft()
        if not self._pending:
            outgoing.release(self)
            trailers, self._trailers = self._trailers, None
            if trailers is not None:
                self.send(None, b"", trailers)
            else:
                self.receiver.drained()
        return True

    def reset(self, code: ErrorCode) -> None:
        """Break off without notifying the receiver."""
        if self.open:
            self.receiver = NOBODY
            self._connection.reset(self.number, code)

    def forget(self) -> int:
        """Drop what is held back; return how many bytes that were."""
        size = sum(map(len, self._pending))
        self._pending.clear()
        return size

    def close(self) -> None:
        """End without notifying the client; the receiver is notified."""
        self.open = False
        self._pending.clear()
        receiver, self.receiver = self.receiver, NOBODY
        receiver.lost()

"""HTTP/2 as frames: a client that sends what it is told to, right or wrong, and keeps what comes.

It knows nothing of the server but RFC 9113 and gRPC's PROTOCOL-HTTP2, and holds it to them: a frame
that is larger than allowed, or data beyond a window, fails the test that reads it.
"""

from __future__ import annotations

import contextlib
import gzip
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from hpack import Decoder, Encoder

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = range(5)
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(5, 10)

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

NO_ERROR, PROTOCOL_ERROR = 0x0, 0x1
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM = 0x5, 0x6, 0x7
CANCEL, COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 0x8, 0x9, 0xB

MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 0x3, 0x4, 0x5

DEFAULT_WINDOW: Final = 65_535
LEAST_FRAME_SIZE: Final = 16_384
UNLIMITED: Final = 2**31 - 1

Fields = Sequence[tuple[str, str]]


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    head = struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream)
    return head + payload


def settings_frame(settings: Mapping[int, int]) -> bytes:
    payload = b"".join(struct.pack(">HI", number, value) for number, value in settings.items())
    return frame(SETTINGS, payload=payload)


def reset(stream: int, code: int = CANCEL) -> bytes:
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def window_update(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))


def ping(payload: bytes = b"slipway!") -> bytes:
    return frame(PING, payload=payload)


def message(content: bytes, *, compressed: bool = False) -> bytes:
    """Return a message with gRPC's prefix; compressed by gzip if so asked."""
    if compressed:
        content = gzip.compress(content)
    return struct.pack(">BI", compressed, len(content)) + content


def request_fields(path: str, **more: str) -> list[tuple[str, str]]:
    """Return the header of a call; _ in a name stands for -."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    fields |= {name.replace("_", "-"): value for name, value in more.items()}
    return list(fields.items())


def plain_block(fields: Fields) -> bytes:
    """Encode a header without any compression; names and values are shorter than 127 bytes."""
    texts = [[part.encode() for part in field] for field in fields]
    return b"".join(
        b"\0" + b"".join(bytes([len(text)]) + text for text in field) for field in texts
    )


class Stream:
    """What has come on one stream.

    Attributes:
        header: fields of the first block, empty until it has come.
        trailers: fields of the last, if there was a second.
        data: of all DATA frames, without padding.
        ended: whether the server has ended it.
        reset: the code by which the server has reset it.
    """

    def __init__(self, number: int, receive_window: int, send_window: int) -> None:
        self.number = number
        self.header: dict[str, str] = {}
        self.trailers: dict[str, str] = {}
        self.data = bytearray()
        self.ended = False
        self.reset: int | None = None
        self.receive_window = receive_window
        self.send_window = send_window

    @property
    def done(self) -> bool:
        return self.ended or self.reset is not None

    @property
    def http_status(self) -> int | None:
        status = self.header.get(":status")
        return None if status is None else int(status)

    @property
    def grpc_status(self) -> int | None:
        """The status of the call; it comes in trailers, or in a header that ends the stream."""
        status = (self.trailers or self.header).get("grpc-status")
        return None if status is None else int(status)

    @property
    def failed(self) -> bool:
        """Whether it ended, and in any other way than a good call does."""
        return self.done and self.grpc_status != 0

    @property
    def messages(self) -> list[bytes]:
        found, rest = list[bytes](), bytes(self.data)
        while rest:
            flag, length = struct.unpack(">BI", rest[:5])
            content, rest = rest[5 : 5 + length], rest[5 + length :]
            assert len(content) == length, "half a message"
            found.append(gzip.decompress(content) if flag else content)
        return found

    def __repr__(self) -> str:
        return (
            f"<stream {self.number}: header {self.header}, {len(self.data)} bytes,"
            f" trailers {self.trailers}, ended {self.ended}, reset {self.reset}>"
        )


class Connection:
    """One connection; ends with its `with` block.

    Attributes:
        frames: what came last, for messages of failed tests.
        streams: by number.
        goaways: last stream and code of each GOAWAY.
        closed: whether the server has ended the connection.
        pongs: payloads of acknowledged PINGs.
        acknowledged: how many SETTINGS the server has acknowledged.
        peer: the server's settings.
        replenish: whether windows are given back as data comes.
    """

    def __init__(
        self,
        address: str,
        settings: Mapping[int, int] | None = None,
        *,
        replenish: bool = True,
        silent: bool = False,
        receive_buffer: int | None = None,
    ) -> None:
        """Connect and, unless ``silent``, send the preface and the settings."""
        host, _, port = address.rpartition(":")
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(10)
        self.socket.connect((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.frames: deque[Frame] = deque(maxlen=20)
        self.streams: dict[int, Stream] = {}
        self.goaways: list[tuple[int, int]] = []
        self.closed = False
        self.pongs: list[bytes] = []
        self.acknowledged = 0
        self.peer: dict[int, int] = {}
        self.replenish = replenish
        self._encoder: Any = Encoder()
        self._decoder: Any = Decoder()
        self._received = bytearray()
        self._next = 1
        self._block: tuple[int, bool, bytearray] | None = None
        self._unacknowledged: deque[Mapping[int, int]] = deque()
        self._initial_window = DEFAULT_WINDOW
        self._frame_size = LEAST_FRAME_SIZE
        self.receive_window = DEFAULT_WINDOW
        self.send_window = DEFAULT_WINDOW
        if not silent:
            self.send(PREFACE)
            self.configure(settings or {})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.socket.close()

    def __repr__(self) -> str:
        frames = [(*one[:3], one.payload[:40]) for one in self.frames]
        return f"<closed {self.closed}, goaways {self.goaways}, last frames {frames}>"

    def send(self, *parts: bytes) -> None:
        """Send bytes as they are; that the server has ended the connection shows when reading."""
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(b"".join(parts))

    def configure(self, settings: Mapping[int, int]) -> None:
        """Send settings; they count from when they are acknowledged."""
        self._unacknowledged.append(settings)
        self.send(settings_frame(settings))

    def grant(self, stream: Stream | None, increment: int) -> None:
        """Let the server send more on a stream, or on the connection."""
        target = self if stream is None else stream
        target.receive_window += increment
        self.send(window_update(0 if stream is None else stream.number, increment))

    def block(self, fields: Fields, *, huffman: bool = True) -> bytes:
        """Compress a header; blocks must be sent in the order in which they were made.

        Huffman codes of a long field take hpack very long.
        """
        return self._encoder.encode(fields, huffman)

    def new_stream(self) -> Stream:
        """Take the next number for a stream, without sending anything."""
        window = self.peer.get(INITIAL_WINDOW_SIZE, DEFAULT_WINDOW)
        stream = Stream(self._next, self._initial_window, window)
        self.streams[stream.number] = stream
        self._next += 2
        return stream

    def open(self, fields: Fields, *, end: bool = False) -> Stream:
        """Begin a stream with one HEADERS frame."""
        stream = self.new_stream()
        flags = END_HEADERS | (END_STREAM if end else 0)
        self.send(frame(HEADERS, flags, stream.number, self.block(fields)))
        return stream

    def send_data(self, stream: Stream, data: bytes, *, end: bool = True) -> None:
        """Send data within the server's windows, waiting for them; less if it ends the stream."""
        most = self.peer.get(MAX_FRAME_SIZE, LEAST_FRAME_SIZE)
        rest = memoryview(data)
        while True:
            size = min(len(rest), self.send_window, stream.send_window, most)
            if rest and size <= 0:
                self.wait(
                    lambda: min(self.send_window, stream.send_window) > 0 or stream.done,
                    "a window to send in",
                )
            if stream.done:
                return
            if rest and size <= 0:
                continue
            part, rest = rest[:size], rest[size:]
            self.send_window -= size
            stream.send_window -= size
            last = end and not rest
            self.send(frame(DATA, END_STREAM if last else 0, stream.number, bytes(part)))
            self.drain()
            if not rest:
                return

    def start(self, path: str, content: bytes, **fields: str) -> Stream:
        """Send a unary call."""
        stream = self.open(request_fields(path, **fields))
        self.send_data(stream, message(content))
        return stream

    def call(self, path: str, content: bytes, seconds: float = 10, **fields: str) -> Stream:
        """Send a unary call, and wait for its end."""
        return self.finish(self.start(path, content, **fields), seconds)

    def finish(self, stream: Stream, seconds: float = 10) -> Stream:
        """Wait until the server has ended a stream."""
        self.wait(lambda: stream.done, f"the end of {stream}", seconds)
        return stream

    def barrier(self) -> None:
        """Wait until the server has seen all that was sent so far."""
        payload = struct.pack(">Q", len(self.pongs))
        self.send(ping(payload))
        self.wait(lambda: payload in self.pongs, "the answer to a PING")

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = 10) -> None:
        """Read until a condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert not self.closed, f"{what} did not come before the end of {self}"
            left = deadline - time.monotonic()
            assert left > 0, f"{what} did not come within {seconds} s: {self}"
            self._read(left)

    def wait_until_closed(self, seconds: float = 10) -> None:
        """Read until the server has ended the connection."""
        self.wait(lambda: self.closed, "the end of the connection", seconds)

    def drain(self) -> None:
        """Read what has come, without waiting."""
        while not self.closed and select.select([self.socket], [], [], 0)[0]:
            self._read(0)

    def listen(self, seconds: float) -> None:
        """Read what comes for so long, or until the server ends the connection."""
        deadline = time.monotonic() + seconds
        while not self.closed and (left := deadline - time.monotonic()) > 0:
            self._read(left)

    def flood(self, part: bytes, *, seconds: float = 20, most: int = 1 << 30) -> int:
        """Send the same again and again and read nothing, until the server ends the connection.

        Returns:
            How many bytes it took; ``most`` or more where it let that much pass.
        """
        poll = select.poll()
        poll.register(self.socket, select.POLLRDHUP | select.POLLERR | select.POLLHUP)
        deadline, sent = time.monotonic() + seconds, 0
        self.socket.settimeout(0.2)
        rest = memoryview(part)
        while sent < most:
            assert time.monotonic() < deadline, (
                f"still connected after {sent} bytes and {seconds} s"
            )
            if poll.poll(0):
                break
            with contextlib.suppress(TimeoutError):
                try:
                    size = self.socket.send(rest)
                except ConnectionError:
                    break
                sent += size
                rest = rest[size:] or memoryview(part)
        self.socket.settimeout(10)
        return sent

    def _read(self, seconds: float) -> None:
        if not select.select([self.socket], [], [], seconds)[0]:
            return
        try:
            part = self.socket.recv(1 << 20)
        except ConnectionError:
            part = b""
        if not part:
            self.closed = True
        self._received += part
        while len(self._received) >= 9:
            length = int.from_bytes(self._received[:3], "big")
            assert length <= self._frame_size, f"a frame of {length} bytes from the server"
            if len(self._received) < 9 + length:
                return
            kind, flags, stream = struct.unpack(">BBI", self._received[3:9])
            read = Frame(kind, flags, stream & UNLIMITED, bytes(self._received[9 : 9 + length]))
            del self._received[: 9 + length]
            self._handle(read)

    def _handle(self, read: Frame) -> None:
        first = not self.frames
        self.frames.append(read)
        assert not first or (read.kind == SETTINGS and not read.flags & ACK), (
            f"the server's first frame is {read}"
        )
        assert self._block is None or read.kind == CONTINUATION, f"{read} within a header"
        handlers = {
            DATA: self._on_data,
            HEADERS: self._on_headers,
            CONTINUATION: self._on_block,
            RST_STREAM: self._on_reset,
            SETTINGS: self._on_settings,
            PING: self._on_ping,
            GOAWAY: self._on_goaway,
            WINDOW_UPDATE: self._on_window_update,
        }
        assert read.kind in handlers, f"a server sends no {read}"
        handlers[read.kind](read)

    def _on_headers(self, read: Frame) -> None:
        assert not read.flags & (PADDED | WITH_PRIORITY), f"not expected of a server: {read}"
        self._block = (read.stream, bool(read.flags & END_STREAM), bytearray())
        self._on_block(read)

    def _on_reset(self, read: Frame) -> None:
        if read.stream in self.streams:
            self.streams[read.stream].reset = struct.unpack(">I", read.payload)[0]

    def _on_ping(self, read: Frame) -> None:
        if read.flags & ACK:
            self.pongs.append(read.payload)
        else:
            self.send(frame(PING, ACK, 0, read.payload))

    def _on_goaway(self, read: Frame) -> None:
        self.goaways.append(struct.unpack(">II", read.payload[:8]))

    def _on_window_update(self, read: Frame) -> None:
        (increment,) = struct.unpack(">I", read.payload)
        assert increment > 0, "a WINDOW_UPDATE of 0"
        if read.stream == 0:
            self.send_window += increment
        elif read.stream in self.streams:
            self.streams[read.stream].send_window += increment

    def _on_data(self, read: Frame) -> None:
        stream = self.streams[read.stream]
        size = len(read.payload)
        assert stream.header, f"data before the header: {self}"
        assert not stream.ended, f"data after the end: {self}"
        self.receive_window -= size
        stream.receive_window -= size
        if size:
            assert self.receive_window >= 0, f"data beyond the connection's window: {self}"
            assert stream.receive_window >= 0, f"data beyond the stream's window: {self}"
        data = read.payload
        if read.flags & PADDED:
            data = data[1 : len(data) - data[0]]
        stream.data += data
        stream.ended = bool(read.flags & END_STREAM)
        if self.replenish and size:
            self.grant(None, size)
            if not stream.ended:
                self.grant(stream, size)

    def _on_block(self, read: Frame) -> None:
        assert self._block is not None
        number, ends, content = self._block
        assert number == read.stream
        content += read.payload
        if not read.flags & END_HEADERS:
            return
        self._block = None
        fields = {str(name): str(value) for name, value in self._decoder.decode(bytes(content))}
        stream = self.streams[number]
        assert not stream.ended, f"a header after the end: {self}"
        if stream.header:
            assert ends, f"trailers that do not end the stream: {self}"
            assert not any(name.startswith(":") for name in fields), fields
            stream.trailers = fields
        else:
            assert ":status" in fields, fields
            stream.header = fields
        stream.ended = ends

    def _on_settings(self, read: Frame) -> None:
        if read.flags & ACK:
            self.acknowledged += 1
            self._apply(self._unacknowledged.popleft())
            return
        before = self.peer.get(INITIAL_WINDOW_SIZE, DEFAULT_WINDOW)
        self.peer |= dict(struct.iter_unpack(">HI", read.payload))
        change = self.peer.get(INITIAL_WINDOW_SIZE, DEFAULT_WINDOW) - before
        for stream in self.streams.values():
            stream.send_window += change
        self.send(frame(SETTINGS, ACK))

    def _apply(self, settings: Mapping[int, int]) -> None:
        self._frame_size = max(LEAST_FRAME_SIZE, settings.get(MAX_FRAME_SIZE, self._frame_size))
        window = settings.get(INITIAL_WINDOW_SIZE, self._initial_window)
        change, self._initial_window = window - self._initial_window, window
        for stream in self.streams.values():
            stream.receive_window += change


def pieces(kind: int, stream: int, content: bytes, size: int, flags: int) -> Iterable[bytes]:
    """Cut a header block into HEADERS and CONTINUATION frames of so many bytes."""
    parts = [content[start : start + size] for start in range(0, len(content), size)] or [b""]
    for index, part in enumerate(parts):
        last = END_HEADERS if index == len(parts) - 1 else 0
        yield frame(CONTINUATION if index else kind, last | (0 if index else flags), stream, part)

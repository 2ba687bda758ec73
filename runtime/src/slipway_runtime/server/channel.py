"""The messages between supervisor and worker, some of them with a connection.

Each message is a packet of its own (SOCK_SEQPACKET), so they come whole and in order: what was
handed over before `STOP` is answered before the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import Final

logger = logging.getLogger(__name__)

_MAX_BYTES: Final = 1024 * 1024
_MESSAGES_A_TURN: Final = 64
# As many connections are on their way between processes as the kernel allows, or as it has memory
# for. It does not tell when there is room again.
_NO_ROOM: Final = (errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM)
_PAUSE_SECONDS: Final = 0.01


class Kind(IntEnum):
    """The messages, and what they carry."""

    # From the supervisor.
    CONNECTION = 1  # PLAIN, SECURE or GRPC, and the socket
    READY = 2
    DRAIN = 3
    STOP = 4  # finish what is in flight, for so many seconds at most (JSON), and end
    ASK = 5  # a number of four bytes and the name of what is wanted
    TOTAL = 6  # the number of a GATHER, and the sum
    # From a worker.
    UP = 16  # it takes connections
    WARM = 17  # JSON: run_seconds
    FAILED = 18  # a termination message
    CLOSED = 19  # one of the connections that it was given
    ANSWER = 20  # the number of an ASK, and what was wanted
    GATHER = 21  # a number of four bytes and the name of what is wanted of all workers


PLAIN: Final = b"p"
SECURE: Final = b"s"
GRPC: Final = b"g"
NUMBER_BYTES: Final = 4

Received = Callable[[Kind, bytes, socket.socket | None], None]


def pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a new channel."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MAX_BYTES)
    return ends


class Channel:
    """One end, in the running event loop: ``received`` gets each message, ``lost`` the end.

    At most ``messages_a_turn`` are taken in one turn of the loop.
    """

    def __init__(
        self,
        end: socket.socket,
        received: Received,
        lost: Callable[[], None],
        messages_a_turn: int = _MESSAGES_A_TURN,
    ) -> None:
        self._end = end
        self._received = received
        self._lost = lost
        self._messages_a_turn = messages_a_turn
        self._loop = asyncio.get_running_loop()
        self._unsent: deque[tuple[bytes, socket.socket | None]] = deque()
        self._open = True
        self._loop.add_reader(end, self._read)

    @property
    def congested(self) -> bool:
        """Whether the other side takes nothing in at present."""
        return bool(self._unsent)

    def send(
        self, kind: Kind, content: bytes = b"", connection: socket.socket | None = None
    ) -> bool:
        """Send a message, or return False: the other end is gone.

        A connection that has gone with a message is closed here.
        """
        if not self._open:
            return False
        packet = bytes((kind,)) + content
        if not self._unsent:
            try:
                self._put(packet, connection)
            except OSError as error:
                if not self._go_on_later(error):
                    return False
            else:
                return True
        self._unsent.append((packet, connection))
        return True

    def _go_on_later(self, error: OSError) -> bool:
        """Arrange for what could not be sent now, or return False: nothing more can be."""
        if isinstance(error, BlockingIOError | InterruptedError):
            self._loop.add_writer(self._end, self._write)
        elif error.errno in _NO_ROOM:
            self._loop.remove_writer(self._end)
            self._loop.call_later(_PAUSE_SECONDS, self._write)
        else:
            self._over()
            return False
        return True

    def _put(self, packet: bytes, connection: socket.socket | None) -> None:
        if connection is None:
            try:
                self._end.send(packet)
            except OSError as error:
                if error.errno != errno.EMSGSIZE:
                    raise
                # Who waits for it gives up; the channel, by which the workers live, stays.
                logger.error("a message of %d bytes is more than the system takes", len(packet))
        else:
            socket.send_fds(self._end, [packet], [connection.fileno()])
            connection.close()

    def close(self) -> None:
        """End the channel."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._end)
        self._loop.remove_writer(self._end)
        self._end.close()
        for _, connection in self._unsent:
            if connection is not None:
                connection.close()
        self._unsent.clear()

    def _write(self) -> None:
        while self._unsent:
            try:
                self._put(*self._unsent[0])
            except OSError as error:
                self._go_on_later(error)
                return
            self._unsent.popleft()
        if self._open:
            self._loop.remove_writer(self._end)

    def _read(self) -> None:
        for _ in range(self._messages_a_turn):
            if not self._open:
                return
            try:
                packet, descriptors, _, _ = socket.recv_fds(self._end, _MAX_BYTES, 1)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                packet, descriptors = b"", []
            connection = None
            if descriptors:
                connection = socket.socket(fileno=descriptors[0])
                connection.setblocking(False)
            if not packet:
                self._over()
                return
            self._received(Kind(packet[0]), packet[1:], connection)

    def _over(self) -> None:
        if self._open:
            self.close()
            with contextlib.suppress(RuntimeError):  # the loop ends as well
                self._loop.call_soon(self._lost)

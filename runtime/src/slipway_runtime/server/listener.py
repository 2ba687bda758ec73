"""The listening socket, and how it stops without losing a connection.

Closing a listening socket resets the connections that the kernel has completed but nobody has
accepted yet. So first a packet filter on the socket drops new connection requests (SYN): what was
complete by then is accepted and answered, what comes later is tried again by its sender, and
refused once the socket is closed, before any request was sent.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import socket
import struct
from collections.abc import Callable

from slipway_runtime.errors import InvalidArguments

ANY = "::"
HTTP_VARIABLES = "SLIPWAY_HOST, SLIPWAY_PORT"
GRPC_VARIABLES = "SLIPWAY_HOST, SLIPWAY_GRPC_PORT"

_ANY_IPV4 = "0.0.0.0"  # noqa: S104 - a pod serves on all addresses
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)
BACKLOG = 2048

# Linux: asm-generic/socket.h, and the classic BPF of linux/filter.h (code, jt, jf, k).
_SO_ATTACH_FILTER = 26
_TCP_FLAGS_OFFSET = 13
_SYN = 0x02
_DROP_SYN = (
    (0x30, 0, 0, _TCP_FLAGS_OFFSET),  # load the byte of TCP flags
    (0x45, 0, 1, _SYN),  # is SYN among them?
    (0x06, 0, 0, 0),  # yes: drop the packet
    (0x06, 0, 0, 0xFFFFFFFF),  # no: let it pass
)

# Of accept(): the connection, or the machine's means, are gone for the moment.
_NOTHING_MEANT = (errno.ECONNABORTED, errno.EPERM, errno.EPROTO)
_PAUSE_SECONDS = 0.1
# Seconds of silence, seconds between probes, probes.
_KEEP_ALIVE = {socket.TCP_KEEPIDLE: 60, socket.TCP_KEEPINTVL: 15, socket.TCP_KEEPCNT: 4}
_CONNECTIONS_A_TURN = 128

logger = logging.getLogger(__name__)


class Acceptor:
    """Hands each connection that comes to a listening socket to ``take``, in the running loop."""

    def __init__(self, listener: socket.socket, take: Callable[[socket.socket], None]) -> None:
        self._listener = listener
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._open = True
        self._loop.add_reader(listener, self._accept)

    async def stop(self, seconds: float) -> None:
        """Take what has come by now, for so long, and then close the listening socket."""
        refuse_new_connections(self._listener)
        await asyncio.sleep(seconds)
        self._accept()
        self._open = False
        self._loop.remove_reader(self._listener)
        self._listener.close()

    def _accept(self) -> None:
        for _ in range(_CONNECTIONS_A_TURN):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _NOTHING_MEANT:
                    continue
                logger.warning("no connection can be taken in now: %s", error.strerror)
                self._loop.remove_reader(self._listener)
                self._loop.call_later(_PAUSE_SECONDS, self._again)
                return
            connection.setblocking(False)
            self._take(connection)

    def _again(self) -> None:
        if self._open:
            self._loop.add_reader(self._listener, self._accept)


def listen(host: str, port: int, variables: str = HTTP_VARIABLES) -> socket.socket:
    """Return a listening TCP socket; port 0 takes any free one. ``variables`` name the address.

    ``::`` takes IPv4 connections too, and is all that a machine without IPv6 has.

    Raises:
        InvalidArguments: the address cannot be had.
    """
    try:
        listener = _bound(host, port)
    except OSError as error:
        if host != ANY or error.errno not in _NO_IPV6:
            raise InvalidArguments(
                f"cannot listen on {host} port {port} ({variables}): {error.strerror}"
            ) from error
        return listen(_ANY_IPV4, port, variables)
    listener.setblocking(False)
    return listener


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit it: a peer that has vanished is noticed, whatever it was told to wait.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEP_ALIVE.items():
            listener.setsockopt(socket.IPPROTO_TCP, option, value)
        if family is socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def refuse_new_connections(listener: socket.socket) -> None:
    """Let no new connection begin; those that have begun can still be accepted.

    Where the kernel refuses the filter nothing changes: the drain delay has to suffice.
    """
    program = ctypes.create_string_buffer(
        b"".join(struct.pack("HBBI", *step) for step in _DROP_SYN)
    )
    reference = struct.pack("HP", len(_DROP_SYN), ctypes.addressof(program))
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, reference)
    except OSError as error:
        logger.debug("no packet filter on the listening socket: %s", error.strerror)

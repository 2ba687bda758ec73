"""Load at a fixed rate, whether or not the server keeps up: what a request waits for counts.

A request's time begins when it was due, not when a connection was free for it.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Json = dict[str, Any]

_CONNECTIONS = 32
_SPIN_SECONDS = 0.0005
_SEND_SECONDS = 20.0
_LATE_SECONDS = 30.0
_END = b"\r\n\r\n"


def head_of(path: str, headers: Mapping[str, str], size: int) -> bytes:
    """The head of a POST request with a body of so many bytes."""
    lines = [f"POST {path} HTTP/1.1", "host: localhost", f"content-length: {size}"]
    return "\r\n".join([*lines, *(f"{k}: {v}" for k, v in headers.items()), "", ""]).encode()


@dataclass
class Connection:
    """A connection to a server on this machine, with one request at a time."""

    socket: socket.socket
    due: float = 0.0
    answer: bytearray = field(default_factory=bytearray)

    @classmethod
    def to(cls, port: int) -> Connection:
        """Connect; only sending blocks, since a body may be larger than the kernel's buffer."""
        one = cls(socket.create_connection(("127.0.0.1", port)))
        one.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one.socket.settimeout(_SEND_SECONDS)
        return one

    def send(self, request: bytes, due: float) -> None:
        """Send a request that was due at some moment."""
        self.due = due
        self.answer.clear()
        self.socket.sendall(request)

    def status(self) -> int | None:
        """The status of the answer once all of it is there.

        Raises:
            RuntimeError: the answer does not tell its length.
        """
        head, found, body = bytes(self.answer).partition(_END)
        if not found:
            return None
        first, *lines = head.lower().split(b"\r\n")
        for line in lines:
            name, _, value = line.partition(b":")
            if name == b"content-length":
                return int(first.split()[1]) if len(body) >= int(value) else None
        raise RuntimeError("the run is void: an answer without content-length")


@contextlib.contextmanager
def on_core(core: str) -> Iterator[None]:
    """Keep this process on one core for a while."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {int(core)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def run(port: int, request: bytes, rate: float, seconds: float, core: str) -> Json:
    """Send so many requests a second for so long; p50 and p99 in microseconds.

    Raises:
        RuntimeError: an answer was not 2xx or is missing, or a connection was closed.
    """
    selector = selectors.DefaultSelector()
    free: list[Connection] = []
    with on_core(core):
        try:
            for _ in range(_CONNECTIONS):
                one = Connection.to(port)
                selector.register(one.socket, selectors.EVENT_READ, one)
                free.append(one)
            times = _send_all(selector, free, request, rate, round(rate * seconds))
        finally:
            for key in list(selector.get_map().values()):
                key.data.socket.close()
            selector.close()
    p50, p99 = np.percentile(times, (50, 99))
    return {"requests": len(times), "p50": p50 * 1e6, "p99": p99 * 1e6}


def _send_all(
    selector: selectors.BaseSelector,
    free: list[Connection],
    request: bytes,
    rate: float,
    count: int,
) -> list[float]:
    times: list[float] = []
    began, sent = time.perf_counter(), 0
    while len(times) < count:
        now = time.perf_counter()
        if now > began + count / rate + _LATE_SECONDS:
            raise RuntimeError(f"the run is void: {count - len(times)} answers are missing")
        while sent < count and free and began + sent / rate <= now:
            free.pop().send(request, began + sent / rate)
            sent += 1
        left = began + sent / rate - time.perf_counter() if sent < count and free else 1.0
        # Waking up takes too long for the last moment.
        for key, _ in selector.select(max(0.0, left - _SPIN_SECONDS)):
            one: Connection = key.data
            if not (data := one.socket.recv(65536)):
                raise RuntimeError("the run is void: a connection was closed")
            one.answer += data
            if (status := one.status()) is None:
                continue
            if not 200 <= status < 300:
                raise RuntimeError(f"the run is void: an answer with status {status}")
            times.append(time.perf_counter() - one.due)
            free.append(one)
    return times

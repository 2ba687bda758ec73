"""Load at a fixed rate, whether or not the server keeps up: what a request waits for counts.

A request's time begins when it was due, not when a connection was free for it.
"""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Json = dict[str, Any]

_CONNECTIONS = 32
_SPIN_SECONDS = 0.0005
_END = b"\r\n\r\n"


def head_of(path: str, headers: Mapping[str, str], size: int) -> bytes:
    """The head of a POST request with a body of so many bytes."""
    lines = [f"POST {path} HTTP/1.1", "host: localhost", f"content-length: {size}"]
    return "\r\n".join([*lines, *(f"{k}: {v}" for k, v in headers.items()), "", ""]).encode()


@dataclass
class _Connection:
    socket: socket.socket
    due: float = 0.0
    answer: bytearray = field(default_factory=bytearray)

    def complete(self) -> bool:
        """Whether the whole answer is there; raises if it is not 2xx."""
        head, found, body = bytes(self.answer).partition(_END)
        if not found:
            return False
        if not head.startswith(b"HTTP/1.1 2"):
            raise RuntimeError(f"the run is void: {head.splitlines()[0].decode()}")
        for line in head.lower().split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name == b"content-length":
                return len(body) >= int(value)
        raise RuntimeError("the run is void: an answer without content-length")


def run(port: int, request: bytes, rate: float, seconds: float, core: str) -> Json:
    """Send so many requests a second for so long; p50 and p99 in microseconds.

    Raises:
        RuntimeError: an answer was not 2xx, or the server has closed a connection.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {int(core)})
    selector = selectors.DefaultSelector()
    free: list[_Connection] = []
    try:
        for _ in range(_CONNECTIONS):
            one = _Connection(socket.create_connection(("127.0.0.1", port)))
            one.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.socket.setblocking(False)
            selector.register(one.socket, selectors.EVENT_READ, one)
            free.append(one)
        times = _send_all(selector, free, request, rate, round(rate * seconds))
    finally:
        for key in list(selector.get_map().values()):
            key.data.socket.close()
        selector.close()
        os.sched_setaffinity(0, before)
    p50, p99 = np.percentile(times, (50, 99))
    return {"requests": len(times), "p50": p50 * 1e6, "p99": p99 * 1e6}


def _send_all(
    selector: selectors.BaseSelector,
    free: list[_Connection],
    request: bytes,
    rate: float,
    count: int,
) -> list[float]:
    times: list[float] = []
    began, sent = time.perf_counter(), 0
    while len(times) < count:
        now = time.perf_counter()
        while sent < count and free and began + sent / rate <= now:
            one = free.pop()
            one.due = began + sent / rate
            one.answer.clear()
            one.socket.sendall(request)
            sent += 1
        left = began + sent / rate - time.perf_counter() if sent < count and free else 1.0
        # Waking up takes too long for the last moment.
        for key, _ in selector.select(max(0.0, left - _SPIN_SECONDS)):
            one: _Connection = key.data
            if not (data := one.socket.recv(65536)):
                raise RuntimeError("the run is void: a connection was closed")
            one.answer += data
            if one.complete():
                times.append(time.perf_counter() - one.due)
                free.append(one)
    return times

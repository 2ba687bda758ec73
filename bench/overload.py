"""More requests than a server can answer: how many it still answers in time.

An open loop: requests are due at a fixed rate, whether or not earlier ones are answered. Good is an
answer 2xx within the deadline, counted from when the request was due. All else is not good: an
answer with another status such as 429 (refused), one that comes later (late), a request that no
connection was free for within the deadline (given up, never sent), and a connection that the server
closed, or never answered on (failed). Good and late together are what the server has answered; how
old these answers were is told as well.

Meanwhile the server is asked whether it is ready, on a new connection each time, as a kubelet does.

There are twice as many connections as requests are due within the deadline: enough that no server
can answer in time what is under way on all of them, fast or slow. Each is accepted, and has been
used, before anything is counted.
"""

from __future__ import annotations

import selectors
import statistics
import time
from collections import Counter, deque
from typing import Any

from fixed_rate import Connection, on_core

DEADLINE_SECONDS = 0.1
_MOST_CONNECTIONS = 4000
_DRAIN_SECONDS = 10.0
_PROBE_EVERY_SECONDS = 0.1

Json = dict[str, Any]


class _Probes:
    """One probe after another: how long each waited, in seconds, from before it connected."""

    def __init__(self, port: int, path: str, selector: selectors.BaseSelector) -> None:
        self.times = list[float]()
        self.under_way: Connection | None = None
        self._port = port
        self._request = f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()
        self._selector = selector
        self._due = 0.0

    def send(self) -> None:
        """Begin another, if it is due and none is under way."""
        now = time.perf_counter()
        if self.under_way is None and now >= self._due:
            self._due = now + _PROBE_EVERY_SECONDS
            self.under_way = Connection.to(self._port)
            self._selector.register(self.under_way.socket, selectors.EVENT_READ, self.under_way)
            self.under_way.send(self._request, now)

    def receive(self) -> None:
        """Take in what has come.

        Raises:
            RuntimeError: the server is not ready, or has closed the connection.
        """
        assert self.under_way is not None
        data = self.under_way.socket.recv(65536)
        self.under_way.answer += data
        status = self.under_way.status()
        if not data or status not in (None, 200):
            raise RuntimeError(f"the run is void: a probe was answered {status}")
        if status is not None:
            self.end()

    def end(self) -> None:
        """End the one that is under way: it has waited for so long at least."""
        if self.under_way is not None:
            self.times.append(time.perf_counter() - self.under_way.due)
            self._selector.unregister(self.under_way.socket)
            self.under_way.socket.close()
            self.under_way = None


class _Load:
    """Connections to one server, the requests that wait for one, and what became of the others."""

    def __init__(self, port: int, request: bytes, connections: int, ready: str) -> None:
        self.counts = Counter[str]()
        self.ages = list[float]()
        self.waiting = deque[float]()
        self.under_way = 0
        self._port = port
        self._request = request
        self._selector = selectors.DefaultSelector()
        self.probes = _Probes(port, ready, self._selector)
        self._free: list[Connection] = []
        for _ in range(connections):
            self._open()

    def use_each(self) -> None:
        """Have every connection accepted, and answered on once, without counting that."""
        every, self._free = self._free, []
        for one in every:
            self._send_on(one, time.perf_counter())
        self.finish()
        self.counts.clear()
        self.ages.clear()

    def finish(self) -> None:
        """Wait for what is under way, and for what waits, but not for ever."""
        end = time.perf_counter() + _DRAIN_SECONDS
        while (self.waiting or self.under_way) and time.perf_counter() < end:
            self.send()
            self.receive(DEADLINE_SECONDS)

    def close(self) -> None:
        for key in list(self._selector.get_map().values()):
            key.data.socket.close()
        self._selector.close()

    def send(self) -> None:
        """Send what waits for as long as connections are free; give up what has waited too long."""
        while self.waiting:
            due = self.waiting[0]
            if time.perf_counter() - due > DEADLINE_SECONDS:
                self.counts["given up"] += 1
            elif self._free:
                self._send_on(self._free.pop(), due)
            else:
                return
            self.waiting.popleft()

    def receive(self, seconds: float) -> None:
        """Wait so long at most for an answer, and count all that have come."""
        for key, _ in self._selector.select(seconds):
            one: Connection = key.data
            if one is self.probes.under_way:
                self.probes.receive()
                continue
            try:
                data = one.socket.recv(65536)
            except OSError:
                data = b""
            if not data:
                self._lost(one)
                continue
            one.answer += data
            if (status := one.status()) is not None:
                self._judge(status, time.perf_counter() - one.due)
                self._rest(one)

    def _send_on(self, one: Connection, due: float) -> None:
        self.under_way += 1
        try:
            one.send(self._request, due)
        except OSError:
            self._lost(one)

    def _judge(self, status: int, seconds: float) -> None:
        if not 200 <= status < 300:
            self.counts["refused"] += 1
            return
        self.ages.append(seconds)
        self.counts["good" if seconds <= DEADLINE_SECONDS else "late"] += 1

    def _rest(self, one: Connection) -> None:
        self.under_way -= 1
        one.due = 0.0
        self._free.append(one)

    def _lost(self, one: Connection) -> None:
        self._selector.unregister(one.socket)
        one.socket.close()
        if one.due:
            self.under_way -= 1
            self.counts["failed"] += 1
        else:
            self._free.remove(one)
        self._open()

    def _open(self) -> None:
        one = Connection.to(self._port)
        self._selector.register(one.socket, selectors.EVENT_READ, one)
        self._free.append(one)


def run(port: int, request: bytes, rate: float, seconds: float, core: str, ready: str) -> Json:
    """Let so many requests a second be due for so long; ``ready`` is the path of a probe.

    Returns:
        What was due, and of that good, refused, late, given up and failed, each a second; the
        median age in seconds of the answers 2xx; by how many seconds the load itself was behind, on
        average; and how many seconds the median and the slowest probe waited.

    Raises:
        RuntimeError: the server said that it is not ready.
    """
    with on_core(core):
        connections = min(round(2 * rate * DEADLINE_SECONDS) + 1, _MOST_CONNECTIONS)
        load = _Load(port, request, connections, ready)
        try:
            load.use_each()
            behind = _offer(load, rate, seconds)
        finally:
            load.close()
    left = load.under_way + len(load.waiting)
    counts = load.counts + Counter({"failed": left})
    each = ("good", "refused", "late", "given up", "failed")
    age = statistics.median(load.ages) if load.ages else 0.0
    told = {"due": counts.total() / seconds, "behind": behind, "age": age}
    probes = load.probes.times
    told |= {"probe": statistics.median(probes), "probe_slowest": max(probes)}
    return told | {name: counts[name] / seconds for name in each}


def _offer(load: _Load, rate: float, seconds: float) -> float:
    began, due, count = time.perf_counter(), 0, round(rate * seconds)
    behind = 0.0
    while due < count:
        now = time.perf_counter()
        while due < count and began + due / rate <= now:
            load.waiting.append(began + due / rate)
            behind += now - load.waiting[-1]
            due += 1
        load.send()
        load.probes.send()
        load.receive(max(0.0, began + due / rate - time.perf_counter()))
    load.probes.end()
    load.finish()
    return behind / count

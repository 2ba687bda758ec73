"""Steady requests to a model from several clients, each answer accounted for."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

_TIMEOUT = 10.0


@dataclass
class Tally:
    """What became of the requests.

    Attributes:
        sent: all requests, answered or not.
        failures: what went wrong, and how often; empty when nothing did.
        by_digest: answers with status 200 by the digest of the model that gave them.
        failed_at: when requests failed, in seconds since the first was sent.
    """

    sent: int = 0
    failures: Counter[str] = field(default_factory=Counter[str])
    by_digest: Counter[str] = field(default_factory=Counter[str])
    failed_at: list[float] = field(default_factory=list[float], repr=False)

    @property
    def failed(self) -> int:
        """How many requests were not answered with 200."""
        return self.failures.total()

    def __str__(self) -> str:
        """Say what an unexpected failure is explained by: how many, which, and when."""
        text = f"{self.sent} sent, {self.failed} failed; answered: {dict(self.by_digest)}"
        if not self.failed_at:
            return text
        first, last = min(self.failed_at), max(self.failed_at)
        return (
            f"{text}; failures: {dict(self.failures)},"
            f" the first {first:.2f} s and the last {last:.2f} s after the start"
        )


class SteadyTraffic:
    """Posts one body over and over, from ``clients`` threads, for as long as a block lasts.

    Half of the clients keep their connection, the other half make a new one for each request:
    a rollout treats the two differently. A failed request is counted and never tried again.
    """

    def __init__(
        self, address: str, path: str, body: bytes, *, clients: int = 4, rate: float = 100.0
    ) -> None:
        """Prepare traffic to ``host:port``; ``rate`` is requests a second of all clients."""
        self._address = address
        self._path = path
        self._body = body
        self._pause = clients / rate
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._tally = Tally()
        self._began = 0.0
        self._threads = [
            threading.Thread(target=self._run, args=(number % 2 == 0,), daemon=True)
            for number in range(clients)
        ]

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def tally(self) -> Tally:
        """A copy of the counts so far."""
        with self._lock:
            return deepcopy(self._tally)

    def _run(self, keep: bool) -> None:
        connection: http.client.HTTPConnection | None = None
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._pause, time.monotonic())
            if connection is None:
                connection = http.client.HTTPConnection(self._address, timeout=_TIMEOUT)
            leave = not self._one(connection, keep)
            if leave:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def _one(self, connection: http.client.HTTPConnection, keep: bool) -> bool:
        """Send one request; return whether the connection can be used again."""
        headers = {"Content-Type": "application/json"}
        if not keep:
            headers["Connection"] = "close"
        digest, failure, again = "", "", False
        began = time.monotonic()
        try:
            connection.request("POST", self._path, self._body, headers)
            response = connection.getresponse()
            text = response.read()
            digest = response.headers.get("slipway-model-digest", "")
            again = keep and not response.will_close
            if response.status != http.client.OK:
                failure = f"{response.status} {text[:200].decode(errors='replace')}"
        except (OSError, http.client.HTTPException) as error:
            failure = f"{type(error).__name__}: {error}"
        with self._lock:
            self._tally.sent += 1
            if failure:
                self._tally.failures[failure] += 1
                self._tally.failed_at.append(began - self._began)
            else:
                self._tally.by_digest[digest] += 1
        return again

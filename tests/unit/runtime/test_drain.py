"""The end of a server: nothing that was sent may be lost."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from runtime_kit import onnx_models
from runtime_kit.process import Server, send

BODY = b"[1,2,3,4]"
# Of IPv6, unless this machine has none.
INTERFACES = Path("/proc/net/if_inet6")
LOOPBACK = "::1" if INTERFACES.exists() and " lo\n" in INTERFACES.read_text() else "127.0.0.1"


def test_sigterm_goes_not_ready_at_once_and_serves_through_the_delay(tmp_path: Path) -> None:
    extra = {"SLIPWAY_DRAIN_DELAY_SECONDS": "1"}
    with Server(tmp_path, onnx_models.linear(), extra=extra) as server:
        server.start().wait_until_ready()
        kept = server.connect()
        assert "connection" not in send(kept, "POST", "/predict", BODY).headers
        server.terminate()
        time.sleep(0.1)
        ready = server.get("/v2/health/ready")
        assert (ready.status, ready.json["phase"]) == (503, "draining")
        assert server.get("/v2/models/m/ready").status == 503
        assert server.get("/health").json["status"] == "draining"
        assert server.get("/v2/health/live").status == 200
        reply = send(kept, "POST", "/predict", BODY)
        assert (reply.status, reply.json) == (200, {"y": [41, 51]})
        assert reply.headers["connection"] == "close"
        ended = server.wait_for_end(5)
        assert (ended.code, ended.termination) == (0, {})


class Client(threading.Thread):
    """Sends one request after the other, on one connection for as long as the server keeps it."""

    def __init__(self, server: Server, pause: float) -> None:
        super().__init__()
        self._server = server
        self._pause = pause
        self.answered = 0
        self.failures: list[str] = []
        self.stop = threading.Event()

    def run(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self.stop.is_set():
            try:
                if connection is None:
                    connection = self._server.connect(timeout=10)
                    connection.connect()
            except ConnectionRefusedError:
                return  # The server no longer listens: a Service would send us elsewhere.
            try:
                reply = send(connection, "POST", "/predict", BODY)
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
                connection = None
                continue
            if reply.status == 200:
                self.answered += 1
            else:
                self.failures.append(str(reply.status))
            if reply.headers.get("connection") == "close":
                connection.close()
                connection = None
            time.sleep(self._pause)
        if connection is not None:
            connection.close()


@pytest.mark.parametrize(
    ("pause", "host", "reached_at", "workers"),
    [
        (0.0, "::", LOOPBACK, 1),
        (0.01, "::", "127.0.0.1", 1),
        (0.15, "127.0.0.1", "127.0.0.1", 1),
        (0.01, "::", LOOPBACK, 2),
    ],
)
def test_no_request_is_lost_on_connections_that_are_kept_alive(
    tmp_path: Path, pause: float, host: str, reached_at: str, workers: int
) -> None:
    extra = {
        "SLIPWAY_DRAIN_DELAY_SECONDS": "0.5",
        # These clients know no other server, and would not leave it alone.
        "SLIPWAY_DRAIN_TIMEOUT_SECONDS": "3",
        "SLIPWAY_HOST": host,
        "SLIPWAY_WORKERS": str(workers),
    }
    with Server(tmp_path, onnx_models.linear(), extra=extra) as server:
        server.host = reached_at
        server.start().wait_until_ready()
        clients = [Client(server, pause) for _ in range(8)]
        for client in clients:
            client.start()
        time.sleep(0.5)
        before = sum(client.answered for client in clients)
        server.terminate()
        ended = server.wait_for_end(10)
        for client in clients:
            client.stop.set()
            client.join(10)
    assert ended.code == 0
    assert [failure for client in clients for failure in client.failures] == []
    assert before > 0
    assert sum(client.answered for client in clients) > before


@pytest.mark.parametrize("workers", [1, 2])
def test_as_long_as_new_connections_come_they_are_served_beyond_the_delay(
    tmp_path: Path, workers: int
) -> None:
    """A proxy that hears late of the pod's end sends clients here who can go nowhere else."""
    extra = {
        "SLIPWAY_DRAIN_DELAY_SECONDS": "0.3",
        "SLIPWAY_DRAIN_TIMEOUT_SECONDS": "20",
        "SLIPWAY_WORKERS": str(workers),
    }
    late = 3.0
    with Server(tmp_path, onnx_models.linear(), extra=extra) as server:
        server.start().wait_until_ready()
        began = time.monotonic()
        server.terminate()
        while time.monotonic() < began + late:
            assert server.post("/predict", BODY).status == 200
            time.sleep(0.05)
        ended = server.wait_for_end(5)
    assert ended.code == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_clients_that_never_stop_coming_get_half_of_the_drain_timeout_at_most(
    tmp_path: Path, workers: int
) -> None:
    extra = {
        "SLIPWAY_DRAIN_DELAY_SECONDS": "0.3",
        "SLIPWAY_DRAIN_TIMEOUT_SECONDS": "4",
        "SLIPWAY_WORKERS": str(workers),
    }
    with Server(tmp_path, onnx_models.linear(), extra=extra) as server:
        server.start().wait_until_ready()
        client = Client(server, 0.02)
        client.start()
        began = time.monotonic()
        server.terminate()
        ended = server.wait_for_end(10)
        seconds = time.monotonic() - began
        client.join(10)
    assert ended.code == 0
    assert client.failures == []
    assert 2.3 < seconds < 4.3


def long_inference(server: Server, seconds: float) -> int:
    rounds = 500
    while True:
        started = time.monotonic()
        server.post("/predict", {"rounds": [rounds]})
        elapsed = time.monotonic() - started
        if elapsed > 0.2:
            return int(rounds * seconds / elapsed)
        rounds *= 2


def busy(tmp_path: Path, **extra: str) -> Server:
    return Server(
        tmp_path,
        onnx_models.busy(),
        extra={
            "SLIPWAY_DRAIN_DELAY_SECONDS": "0.1",
            "SLIPWAY_INTRA_OP_THREADS": "1",
            **extra,
        },
    )


def test_what_is_in_flight_is_finished(tmp_path: Path) -> None:
    with busy(tmp_path) as server:
        server.start().wait_until_ready()
        rounds = long_inference(server, 2.0)
        statuses: list[int] = []

        def ask() -> None:
            reply = server.post("/predict", {"rounds": [rounds]})
            statuses.append(reply.status)

        clients = [threading.Thread(target=ask) for _ in range(2)]
        for client in clients:
            client.start()
        time.sleep(0.3)
        server.terminate()
        ended = server.wait_for_end(20)
        for client in clients:
            client.join()
    assert ended.code == 0
    assert statuses == [200, 200]


def test_what_does_not_end_within_the_timeout_is_given_up(tmp_path: Path) -> None:
    with busy(tmp_path, SLIPWAY_DRAIN_TIMEOUT_SECONDS="1") as server:
        server.start().wait_until_ready()
        rounds = long_inference(server, 30.0)
        connection = server.connect()
        connection.request("POST", "/predict", b'{"rounds": [%d]}' % rounds)
        time.sleep(0.2)
        started = time.monotonic()
        server.terminate()
        ended = server.wait_for_end(10)
        assert time.monotonic() - started < 5
        connection.close()
    assert ended.code == 0


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]])
def test_sigint_or_a_second_sigterm_skip_the_delay(
    tmp_path: Path, signals: list[signal.Signals]
) -> None:
    extra = {"SLIPWAY_DRAIN_DELAY_SECONDS": "60"}
    with Server(tmp_path, onnx_models.linear(), extra=extra) as server:
        server.start().wait_until_ready()
        for number in signals:
            server.process.send_signal(number)
            time.sleep(0.2)
        assert server.wait_for_end(5).code == 0


_ASKED_TO_STOP_EARLY = """
import os, signal
from slipway_runtime import cli

def settings(_kind):
    os.kill(os.getpid(), signal.SIGTERM)
    raise RuntimeError("still here")

cli._settings = settings
cli.main()
"""


def test_who_is_asked_to_stop_while_it_starts_ends_well(tmp_path: Path) -> None:
    """As process 1 of a container it would not even notice, for want of a handler."""
    arguments = ("serve", "--digest", f"sha256:{'0' * 64}", "--name", "m")
    command = [sys.executable, "-c", _ASKED_TO_STOP_EARLY, *arguments]
    extra = {"SLIPWAY_TERMINATION_LOG": str(tmp_path / "termination")}
    ended = subprocess.run(
        command, env=os.environ | extra, capture_output=True, check=False, timeout=30
    )
    assert (ended.returncode, ended.stderr) == (0, b"")

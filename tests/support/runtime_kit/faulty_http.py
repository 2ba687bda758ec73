"""A local HTTP server that answers each request with the next of a list of scripted answers."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

import trustme


@dataclass(frozen=True)
class Answer:
    """One answer. `announce` overrides Content-Length; the connection is cut after the body."""

    status: int = 200
    body: bytes = b""
    announce: int | None = None
    chunked_and_cut: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    headers: dict[str, str]


class FaultyServer:
    """Serves on a loopback port; the last answer is repeated. `seen` records the requests.

    Each connection is closed after an answer, unless it is to be kept alive; `connections` counts.
    """

    def __init__(
        self,
        answers: Sequence[Answer] | Callable[[Seen], Answer],
        certificate: trustme.LeafCert | None = None,
        *,
        keep_alive: bool = False,
    ) -> None:
        self.seen: list[Seen] = []
        self.connections = 0
        outer = self
        lock = threading.Lock()

        def choose(seen: Seen) -> Answer:
            with lock:
                outer.seen.append(seen)
                if callable(answers):
                    return answers(seen)
                return answers[min(len(outer.seen), len(answers)) - 1]

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                with lock:
                    outer.connections += 1
                super().setup()

            def _answer(self) -> None:
                answer = choose(Seen(self.command, self.path, dict(self.headers.items())))
                time.sleep(answer.delay)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if answer.chunked_and_cut:
                    self.send_header("Transfer-Encoding", "chunked")
                else:
                    length = len(answer.body) if answer.announce is None else answer.announce
                    self.send_header("Content-Length", str(length))
                if not keep_alive:
                    self.send_header("Connection", "close")
                self.end_headers()
                if self.command != "HEAD":
                    if answer.chunked_and_cut:
                        self.wfile.write(b"%x\r\n" % (len(answer.body) * 2))
                    self.wfile.write(answer.body)
                self.close_connection = not keep_alive

            do_GET = do_HEAD = do_POST = _answer  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._scheme = "http"
        if certificate is not None:
            self._scheme = "https"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.configure_cert(context)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

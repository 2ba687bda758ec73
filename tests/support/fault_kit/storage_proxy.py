"""Stands in front of a real S3 server and treats its answers badly."""

from __future__ import annotations

import http.client
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

_CHUNK = 16 * 1024
_TIMEOUT = 20
_OWN_HEADERS = ("content-length", "connection", "date", "server")
_DENIED = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code>'
    b"<Message>Access Denied</Message></Error>"
)


@dataclass(frozen=True)
class Disturbance:
    """What is done to the answers; nothing by default.

    Attributes:
        bytes_per_second: the pace of a body.
        cut_after: bytes of a body after which the connection is cut.
        promises: bytes by which the size of the object is overstated.
        hides_missing: 403 in place of 404, as S3 answers who may not list the bucket.
        silent: connections are accepted, and nothing is answered.
    """

    bytes_per_second: int | None = None
    cut_after: int | None = None
    promises: int = 0
    hides_missing: bool = False
    silent: bool = False


class StorageProxy:
    """Forwards GET and HEAD to ``upstream``, an http URL, as they are: signatures stay valid.

    ``disturbance`` may be changed at any time. `close` refuses connections until `open`.
    """

    def __init__(self, upstream: str, address: str) -> None:
        self.upstream = urlsplit(upstream).netloc
        self._address = address
        self._port = 0
        self._server: ThreadingHTTPServer | None = None
        self.ended = threading.Event()
        self.disturbance = Disturbance()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.ended.set()
        self.close()

    @property
    def url(self) -> str:
        return f"http://{self._address}:{self._port}"

    @property
    def listening(self) -> bool:
        return self._server is not None

    def open(self) -> None:
        """Listen; the port is the same every time."""
        server = ThreadingHTTPServer((self._address, self._port), self.handler())
        server.daemon_threads = True
        # Whoever still waits for an answer must not hold up the end.
        server.block_on_close = False
        self._port = server.server_address[1]
        self._server = server
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Refuse connections."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """The class that answers one connection."""
        return type("Handler", (_Handler,), {"proxy": self})


class _Handler(BaseHTTPRequestHandler):
    """Answers one request of one connection."""

    protocol_version = "HTTP/1.1"
    proxy: StorageProxy

    def do_GET(self) -> None:
        self.close_connection = True
        disturbance = self.proxy.disturbance
        if disturbance.silent:
            self.proxy.ended.wait()
            return
        upstream = http.client.HTTPConnection(self.proxy.upstream, timeout=_TIMEOUT)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                upstream.putheader(name, value)
            upstream.endheaders()
            self._pass_on(upstream.getresponse(), disturbance)
        except ConnectionError:
            pass  # The client has gone.
        finally:
            upstream.close()

    do_HEAD = do_GET  # noqa: N815

    def _pass_on(self, answer: http.client.HTTPResponse, how: Disturbance) -> None:
        status, body = answer.status, answer.read()
        if how.hides_missing and status == http.client.NOT_FOUND:
            status, body = http.client.FORBIDDEN, _DENIED
        length = len(body)
        if self.command == "HEAD":
            length = int(answer.headers.get("Content-Length", "0")) + how.promises
        self.send_response(status)
        for name, value in answer.headers.items():
            if name.lower() == "content-range" and "/" in value:
                part, _, total = value.partition("/")
                self.send_header(name, f"{part}/{int(total) + how.promises}")
            elif name.lower() not in _OWN_HEADERS:
                self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self._send(body[: how.cut_after], how.bytes_per_second)

    def _send(self, body: bytes, pace: int | None) -> None:
        for begin in range(0, len(body), _CHUNK):
            chunk = body[begin : begin + _CHUNK]
            self.wfile.write(chunk)
            if pace is not None and self.proxy.ended.wait(len(chunk) / pace):
                return

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

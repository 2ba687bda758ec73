"""Requests out of the bytes of one HTTP/1.1 connection.

httptools parses (llhttp, with no leniency); what is here limits what it does not: heads, trailers
and chunk extensions without end. It knows nothing of answers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import unquote_to_bytes

import httptools

from slipway_runtime.server.http import Exchange, Peer

_MAX_HEAD_BYTES: Final = 64 * 1024
# Chunk sizes with extensions, and trailers, until a part of the body comes or its end.
_MAX_BETWEEN_BYTES: Final = 64 * 1024
_ABOUT_UPGRADES: Final = (b"upgrade", b"connection", b"http2-settings")


class RefusedError(Exception):
    """The request is to be answered with this status, and nothing more is read."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class RequestReader:
    """The parser of one connection. ``begun`` gets each request as soon as its head is complete;
    ``peer`` is what the request then asks for its body.
    """

    __slots__ = (
        "_begun",
        "_begun_here",
        "_between_bytes",
        "_body_here",
        "_head_bytes",
        "_headers",
        "_may_be_long",
        "_parser",
        "_peer",
        "_refusal",
        "_url",
        "_waited",
        "heads",
        "receiving",
    )

    def __init__(self, peer: Peer, begun: Callable[[Exchange], None]) -> None:
        self.heads = 0
        """How many requests have begun, those included whose head is not complete."""
        self.receiving: Exchange | None = None
        """The request whose body is not complete yet."""
        self._peer = peer
        self._begun = begun
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._begun_here = False
        self._between_bytes = 0
        self._body_here = False
        self._waited = 0.0
        self._may_be_long = False
        self._refusal: RefusedError | None = None

    @property
    def in_head(self) -> bool:
        """Whether a request has begun whose head is not complete."""
        return self._head_bytes > 0

    def close(self) -> None:
        """Let go of what holds this object in turn: the garbage collector may come late."""
        self.receiving = None
        del self._parser, self._peer

    def feed(self, data: bytes, waited: float) -> None:
        """Take in bytes that were deferred for ``waited`` seconds.

        Raises:
            RefusedError: they are not HTTP/1.1, or exceed a limit that the parser does not set.
        """
        self._waited = waited
        self._begun_here = self._body_here = False
        self._may_be_long = self.in_head or len(data) > _MAX_HEAD_BYTES
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            raise RefusedError(400, f"this is not HTTP/1.1: {error}") from None
        if self._refusal is not None:
            raise self._refusal
        if self._head_bytes and not self._begun_here:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                raise _too_long()
        if self.receiving is not None:
            self._between_bytes = 0 if self._body_here else self._between_bytes + len(data)
            if self._between_bytes > _MAX_BETWEEN_BYTES:
                most = f"{_MAX_BETWEEN_BYTES} bytes"
                message = f"the body's chunk extensions or trailers are longer than {most}"
                raise RefusedError(431, message)

    def _parse(self, data: bytes) -> None:
        rest: bytes | memoryview = data
        while rest:
            try:
                self._parser.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                self._ignore_upgrade()
                rest = memoryview(rest)[upgrade.args[0] :]
            else:
                return

    def _ignore_upgrade(self) -> None:
        """Parse the head of a request that asks for an upgrade again, without the upgrade.

        Nothing here upgrades, and HTTP lets a server ignore it; but the parser would take the body
        for that protocol's bytes.
        """
        method = self._parser.get_method()
        if method == b"CONNECT":
            raise RefusedError(405, "CONNECT is for proxies")
        headers = [pair for pair in self._headers if pair[0] not in _ABOUT_UPGRADES]
        if not self._parser.should_keep_alive():
            headers.append((b"connection", b"close"))
        version = self._parser.get_http_version().encode()
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        self._parser = httptools.HttpRequestParser(self)
        head = method + b" " + self._url + b" HTTP/" + version + b"\r\n" + lines + b"\r\n"
        self._parser.feed_data(head)

    # What the parser calls.

    def on_message_begin(self) -> None:
        """A request begins."""
        self._url = b""
        self._headers = []
        self._head_bytes = 1
        self.heads += 1
        self._begun_here = True  # in these data, of which an unknown part is this head's

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; those behind a chunked body (trailers) are ignored."""
        if self.receiving is None:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is complete: the request can be answered."""
        if self._parser.should_upgrade():
            return
        self._head_bytes = 0
        # The parser would not let an exception through as it is.
        self._refusal = self._refusal or self._refusal_of_head()
        if self._refusal is not None:
            return
        path, query = _split_target(self._url)
        method = self._parser.get_method().decode("ascii")
        exchange = Exchange(method, path, query, self._headers, self._peer, self._waited)
        if self._parser.get_http_version() == "1.0":
            exchange.keep_alive = exchange.expects_continue = False
        elif not self._parser.should_keep_alive():
            exchange.keep_alive = False
        self.receiving = exchange
        self._between_bytes = 0
        self._begun(exchange)

    def _refusal_of_head(self) -> RefusedError | None:
        if self._may_be_long:
            lines = sum(len(name) + len(value) for name, value in self._headers)
            if len(self._url) + lines > _MAX_HEAD_BYTES:
                return _too_long()
        names = [name for name, _ in self._headers]
        if b"transfer-encoding" in names:
            codings = [value for name, value in self._headers if name == b"transfer-encoding"]
            if b",".join(codings).strip().lower() != b"chunked":
                # RFC 9112, 6.1.
                return RefusedError(501, "the transfer coding of a body is chunked or none")
        hosts = names.count(b"host")
        if hosts > 1 or (not hosts and self._parser.get_http_version() != "1.0"):
            # RFC 9112, 3.2.
            return RefusedError(400, f"a request has one header Host; this one has {hosts}")
        return None

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._body_here = True
        if self.receiving is not None:
            self.receiving.feed(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        if self.receiving is not None:
            self.receiving.end()
            self.receiving = None


def _too_long() -> RefusedError:
    return RefusedError(431, f"the request's headers are longer than {_MAX_HEAD_BYTES} bytes")


def _split_target(url: bytes) -> tuple[str, bytes]:
    """Return the path, decoded, and the query of a request's target."""
    if not url.startswith(b"/"):
        try:
            whole = httptools.parse_url(url)
        except httptools.HttpParserInvalidURLError:
            return url.decode("latin-1"), b""
        url = (whole.path or b"/") + b"?" + (whole.query or b"")
    path, _, query = url.partition(b"?")
    if b"%" in path:
        path = unquote_to_bytes(path)
    return path.decode("utf-8", "replace"), query

"""Requests with no more around them than a Lease needs.

An idle operator does little but renew its Lease, each time after a pause in which the processor has
forgotten the operator's code. What a renewal costs is then how much code it runs through.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from kubernetes.aio.client import ApiClient, Configuration

from slipway_operator.reconcile.kube import KubeClient, NotLeaderError, Transport, TransportError

_HTTPS = 443
_HTTP = 80


def connect_lean(configuration: Configuration) -> KubeClient:
    """A client with connections of its own, for small requests whose time the caller limits."""
    return KubeClient(_LeanTransport(ApiClient(configuration)))


class _LeanTransport(Transport):
    """HTTP/1.1 on asyncio's streams: half of the code that the full transport runs through."""

    def __init__(self, api: Any) -> None:
        super().__init__(api, None)
        host: str = api.configuration.host
        url = urlsplit(host)
        encrypted = url.scheme == "https"
        self._place = url.hostname, url.port or (_HTTPS if encrypted else _HTTP)
        self._tls: ssl.SSLContext | None = api.rest_client.ssl_context if encrypted else None
        self._before_paths = url.path
        self._always: dict[str, str] = {"Host": url.netloc, **api.default_headers}
        self._idle: _Connection | None = None

    async def send(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes | None,
        may_write: Callable[[], bool],
    ) -> tuple[int, bytes]:
        """As the full transport does, which also handles proxies."""
        if self._proxy is not None:
            return await super().send(method, path, headers, body, may_write)
        sent = body or b""
        fields = {**self._always, **headers, "Content-Length": str(len(sent))}
        token = await self._api.configuration.get_api_key_with_prefix(
            "BearerToken", "authorization"
        )
        if token:
            fields["Authorization"] = token
        lines = [f"{method} {self._before_paths}{path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        request = "\r\n".join([*lines, "", ""]).encode() + sent
        connection, self._idle = self._idle, None
        try:
            if connection is None or connection.ended():
                connection = _Connection(
                    *await asyncio.open_connection(*self._place, ssl=self._tls)
                )
            if body is not None and not may_write():
                raise NotLeaderError
            answer = await connection.ask(request)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise TransportError(f"{method} {path}: {error or type(error).__name__}") from error
        finally:
            if connection is not None:
                self._keep(connection)
        return answer

    def _keep(self, connection: "_Connection") -> None:
        """One connection is enough, unless an answer hangs; others are closed."""
        if connection.reusable and self._idle is None:
            self._idle = connection
        else:
            connection.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._idle is not None:
            self._idle.close()
        await super().close()


class _Connection:
    """One request at a time. Reusable when its last answer was read to the end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.reusable = True

    def ended(self) -> bool:
        """Whether the other side has closed or reset it."""
        return self._reader.at_eof() or self._writer.is_closing()

    def close(self) -> None:
        """Close at once: the other side may no longer answer."""
        self._writer.transport.abort()

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request; the status code and the body of the answer.

        Raises:
            OSError, EOFError: the connection broke.
            ValueError, asyncio.LimitOverrunError: that is no HTTP.
        """
        self.reusable = False
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        version, _, status_and_reason = first.partition(" ")
        if not version.startswith("HTTP/1."):
            raise ValueError(f"an answer in another protocol: {first[:64]}")
        status = int(status_and_reason[:3])
        if "content-length" in fields:
            body = await self._reader.readexactly(int(fields["content-length"]))
        elif fields.get("transfer-encoding", "").lower() == "chunked":
            body = await self._chunks()
        else:
            return status, await self._reader.read()
        self.reusable = fields.get("connection", "").lower() != "close"
        return status, body

    async def _chunks(self) -> bytes:
        body = b""
        while size := int((await self._reader.readline()).partition(b";")[0], 16):
            body += await self._reader.readexactly(size)
            await self._reader.readline()
        while (await self._reader.readline()).strip():
            pass  # a trailer
        return body

"""The answers that an ASGI application makes, such as FastAPI's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from slipway_runtime.server.http import Exchange, Response

Message: TypeAlias = MutableMapping[str, Any]
Application: TypeAlias = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[Message]],
        Callable[[Message], Awaitable[None]],
    ],
    Awaitable[None],
]


async def call(application: Application, exchange: Exchange, path: str) -> Response:
    """Return the application's whole answer at a path to a request without a body."""
    status = 500
    headers: list[tuple[bytes, bytes]] = []
    parts: list[bytes] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            headers.extend(message["headers"])
        else:
            parts.append(message.get("body", b""))

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": exchange.method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": exchange.query,
        "root_path": "",
        "headers": list(exchange.headers),
        "client": None,
        "server": None,
    }

    async def run() -> None:
        await application(scope, receive, send)

    # In a task: what such applications are built of asks which one it is in.
    await asyncio.get_running_loop().create_task(run())
    kind = next((value for name, value in headers if name == b"content-type"), b"text/plain")
    others = [pair for pair in headers if pair[0] not in (b"content-type", b"content-length")]
    return Response(status, b"".join(parts), kind, others)

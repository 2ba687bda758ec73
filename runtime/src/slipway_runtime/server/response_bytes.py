"""An answer as the bytes that HTTP/1.1 sends."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from slipway_runtime.server.http import Response

_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
# Up to here the copy costs less than handing the kernel several pieces.
_WORTH_JOINING: Final = 64 * 1024


def encode(
    response: Response, date: bytes, *, keep_alive: bool, bodiless: bool = False
) -> Sequence[bytes | memoryview]:
    """Return the pieces to send, one where the answer is small.

    ``date`` is the value of the header Date. Without ``keep_alive`` the client is told that the
    connection ends; ``bodiless`` leaves the body out and keeps its length, as HEAD asks.
    """
    body = response.body
    parts = body if isinstance(body, tuple) else (body,)
    size = sum(map(len, parts))
    head = [
        _STATUS_LINES[response.status],
        b"date: ",
        date,
        b"\r\ncontent-type: ",
        response.content_type,
        b"\r\ncontent-length: %d\r\n" % size,
    ]
    for name, value in response.headers:
        head += (name, b": ", value, b"\r\n")
    head.append(b"\r\n" if keep_alive else b"connection: close\r\n\r\n")
    if bodiless:
        return (b"".join(head),)
    if size <= _WORTH_JOINING:
        return (b"".join((*head, *parts)),)
    return (b"".join(head), *parts)

"""The pages at `/`, which shows the model and sends samples, and `/docs`, which shows the routes.

Their files are sent as they are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from slipway_runtime.server.http import Exchange, Headers, Response

_FOLDER: Final = Path(__file__).parent / "static"
_HTML: Final = b"text/html; charset=utf-8"
_SCRIPT: Final = b"text/javascript; charset=utf-8"
_FILES: Final = {
    "/": ("index.html", _HTML),
    "/docs": ("docs.html", _HTML),
    "/page.css": ("page.css", b"text/css; charset=utf-8"),
    "/common.js": ("common.js", _SCRIPT),
    "/page.js": ("page.js", _SCRIPT),
    "/docs.js": ("docs.js", _SCRIPT),
}
PATHS: Final = frozenset(_FILES)
# Nothing from another host, nothing inline, in nobody's frame.
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS: Final[Headers] = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
)


def routes() -> dict[str, Mapping[str, Callable[[Exchange], Awaitable[Response]]]]:
    """Return the handlers of the pages' files by path and method."""
    return {path: {"GET": _file(*of)} for path, of in _FILES.items()}


def _file(name: str, content_type: bytes) -> Callable[[Exchange], Awaitable[Response]]:
    async def send(_exchange: Exchange) -> Response:
        content = (_FOLDER / name).read_bytes()
        return Response(200, content, content_type, _HEADERS)

    return send

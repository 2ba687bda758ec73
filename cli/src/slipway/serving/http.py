"""One request to a served model, and what its answers and silences mean."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from slipway.errors import AccessDenied, InvalidArguments, NotFound, SlipwayError, Unavailable

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_BAD_REQUEST, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 400, 401, 403, 404
_REFUSED = (_BAD_REQUEST, 413, 415, 422)


def ask(
    url: str,
    body: bytes | None = None,
    timeout: float = 60,
    headers: Mapping[str, str] | None = None,
) -> Any:
    """GET a URL, or POST a body to it, JSON unless the headers say otherwise; return the JSON that
    comes back.

    Raises:
        InvalidArguments: the model refuses the body, or the URL is none.
        NotFound, AccessDenied, Unavailable: what the server said, or that it said nothing.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidArguments(f"{url!r} is no URL", "--url http://localhost:8080")
    # Requests to this machine do not go through a proxy.
    proxies: dict[str, str] | None = {} if parts.hostname in _LOOPBACK else None
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
    told = dict(headers or {"Content-Type": "application/json"})
    request = urllib.request.Request(url, data=body, headers=told)  # noqa: S310
    try:
        with opener.open(request, timeout=timeout) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            raise _refused(error.code, error.read(), url) from None
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise Unavailable(
            f"nothing answers at {parts.scheme}://{parts.netloc}: {reason}",
            "slipway serve MODEL serves here; kubectl port-forward svc/NAME 8080:80 in a cluster",
        ) from None
    except ValueError:
        raise Unavailable(f"{url} answered with something that is no JSON", "check --url") from None


def _refused(status: int, body: bytes, url: str) -> SlipwayError:
    try:
        said = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        said = body[:200].decode("utf-8", "replace")
    if status in _REFUSED:
        return InvalidArguments(f"the model refuses the request: {said}")
    if status == _NOT_FOUND:
        return NotFound(f"{url} answered {status}: {said}", "check --url and --name")
    if status in (_UNAUTHORIZED, _FORBIDDEN):
        return AccessDenied(f"{url} answered {status}: {said}")
    return Unavailable(f"{url} answered {status}: {said}", "try again")

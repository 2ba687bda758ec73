"""https:// and http:// sources.

Plain http is allowed, with a warning in the log: the digest protects what arrives, only its
secrecy is lost. A redirect may lead to http(s) alone, and never from https down to http, since
the query of a presigned URL is a credential.
"""

from __future__ import annotations

import copy
import http.client
import logging
import ssl
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from typing import IO
from urllib.parse import quote, urlsplit

from slipway_runtime import __version__
from slipway_runtime.artifact.sources.base import (
    Range,
    ReplacedError,
    TransientError,
    pause_of,
    strong,
    total_of,
)
from slipway_runtime.artifact.sources.trust import tls_context
from slipway_runtime.errors import (
    AccessDenied,
    ArtifactNotFound,
    Failure,
    InvalidArguments,
    SourceUnavailable,
)
from slipway_runtime.settings import FetchSettings

_TRANSIENT_STATUS = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
}

logger = logging.getLogger(__name__)


class HttpSource:
    """Downloads one URL; proxies are taken from HTTPS_PROXY, HTTP_PROXY and NO_PROXY."""

    def __init__(self, uri: str, settings: FetchSettings) -> None:
        try:
            parts = urlsplit(uri)
            host, _port = parts.hostname, parts.port
        except ValueError as error:
            raise InvalidArguments(f"the URI is malformed: {error}") from error
        if not host:
            raise InvalidArguments("the URI names no host: it must be https://HOST/PATH")
        if parts.username is not None or parts.password is not None:
            raise InvalidArguments(
                "the URI holds a user name or password, which everyone who may read the resource"
                " would see: use a presigned URL or an s3:// source with a Secret"
            )
        if not uri.isascii() or not uri.isprintable() or " " in uri:
            raise InvalidArguments(
                "the URI holds blanks or characters beyond ASCII: write them percent-encoded, a"
                " blank as %20"
            )
        self._uri = uri.partition("#")[0]
        self._description = _without_query(self._uri)
        self._settings = settings
        self._opener = _opener(tls_context(settings.ca_bundle))
        if parts.scheme.lower() == "http":
            logger.warning("%s is read over plain http: anyone on the way can read it", host)

    @property
    def description(self) -> str:
        """The URL without its query."""
        return self._description

    def beside(self, path: str) -> HttpSource:
        """Return the URL of this path in the same folder, with the same query.

        A query that signs a folder or container holds for its files too.
        """
        parts = urlsplit(self._uri)
        folder = parts.path.rpartition("/")[0]
        other = copy.copy(self)
        other._uri = parts._replace(path=f"{folder}/{quote(path)}").geturl()
        other._description = _without_query(other._uri)
        return other

    @contextmanager
    def open(self, wanted: Range, seconds_left: float) -> Generator[_Body]:
        """GET a range of the URL. See `Source.open`."""
        headers = {
            "Accept": "application/octet-stream, */*",
            "Accept-Encoding": "identity",
            "User-Agent": f"slipway-runtime/{__version__}",
            "Range": wanted.header,
        }
        if wanted.validator is not None:
            headers["If-Match"] = wanted.validator
        with self._answer(headers, seconds_left) as response:
            validator = strong(response.headers["ETag"])
            if response.status == HTTPStatus.PARTIAL_CONTENT:
                total = total_of(response.headers["Content-Range"] or "", wanted, self.description)
                yield _Body(response, self, total, validator, ranged=True)
            elif wanted.start == 0:
                yield _Body(response, self, response.length, validator, ranged=False)
            else:
                raise ReplacedError(f"{self.description} no longer answers with ranges")

    @contextmanager
    def _answer(
        self, headers: dict[str, str], seconds_left: float
    ) -> Generator[http.client.HTTPResponse]:
        request = urllib.request.Request(self._uri, headers=headers)  # noqa: S310 - checked above
        timeout = max(0.1, min(self._settings.read_timeout, seconds_left))
        try:
            response: http.client.HTTPResponse = self._opener.open(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            with error:
                if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    raise self._refused(error.code, error.headers) from error
            if "Range" not in headers:
                raise self._refused(error.code, error.headers) from error
            # An empty object has no first byte.
            plain = {name: value for name, value in headers.items() if name != "Range"}
            with self._answer(plain, seconds_left) as whole:
                yield whole
            return
        except urllib.error.URLError as error:
            raise self.no_answer(error.reason) from error
        except (http.client.HTTPException, OSError) as error:
            raise self.no_answer(error) from error
        except ValueError as error:
            # The URL of the source has been read before; what a server redirects to has not.
            where = self.description
            raise SourceUnavailable(f"{where} redirects to a malformed URL") from error
        with response:
            if response.status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
                raise self._refused(response.status, response.headers)
            yield response

    def _refused(self, status: int, headers: Message) -> Failure | TransientError:
        where = self.description
        if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            return ArtifactNotFound(f"{where} does not exist: the server answered {status}")
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return AccessDenied(
                f"access to {where} was denied, or the object does not exist: the server answered"
                f" {status}; if the URL is presigned it may have expired"
            )
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            return SourceUnavailable(
                f"{where} answered {status}: the redirect leads where it is not followed"
                " (only http and https are), or too far"
            )
        if status == HTTPStatus.PRECONDITION_FAILED:
            return ReplacedError(f"{where} was replaced while it was read")
        if status in _TRANSIENT_STATUS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return TransientError(f"{where} answered {status}", pause_of(headers["Retry-After"]))
        return SourceUnavailable(f"{where} answered {status}, which another attempt cannot fix")

    def no_answer(self, reason: object) -> Failure | TransientError:
        """Return the failure for an answer that did not come, or not completely."""
        where = self.description
        if isinstance(reason, ssl.SSLCertVerificationError):
            return SourceUnavailable(
                f"the certificate of {where} is not trusted: {reason.verify_message};"
                " name the authority that signed it in storage.caBundle"
            )
        if isinstance(reason, _ForbiddenRedirectError):
            return SourceUnavailable(f"{where} {reason}")
        return TransientError(f"{where} does not answer: {_describe(reason)}")


@dataclass
class _Body:
    """The body of an answer; see `Answer`."""

    response: http.client.HTTPResponse
    source: HttpSource
    total: int | None
    validator: str | None
    ranged: bool

    def readinto(self, view: memoryview) -> int:
        """Read the next bytes; http.client ends quietly when the connection is cut."""
        try:
            return self.response.readinto(view)
        except (http.client.HTTPException, OSError) as error:
            raise self.source.no_answer(error) from error


class _ForbiddenRedirectError(Exception):
    """The server redirects to an address that is not allowed."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects to http(s) only, and not from https to http."""

    max_redirections = 5

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,  # pyright: ignore[reportIncompatibleMethodOverride]
        newurl: str,
    ) -> urllib.request.Request | None:
        """Refuse what the class says; otherwise do as the base class does."""
        scheme = urlsplit(newurl).scheme.lower()
        allowed = ("https",) if req.type == "https" else ("https", "http")
        if scheme not in allowed:
            raise urllib.error.URLError(
                _ForbiddenRedirectError(
                    f"redirects to {scheme}://, and from {req.type} only"
                    f" {' or '.join(allowed)} is followed"
                )  # type: ignore[arg-type]
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def _opener(context: ssl.SSLContext) -> urllib.request.OpenerDirector:
    # Built by hand: build_opener() would add handlers for ftp:, file: and data: URLs.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=context),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


def _without_query(uri: str) -> str:
    path, question_mark, _ = uri.partition("?")
    return f"{path}?…" if question_mark else path


def _describe(reason: object) -> str:
    if isinstance(reason, TimeoutError):
        return "timed out"
    if isinstance(reason, http.client.IncompleteRead):
        return "the connection was cut in the middle of the body"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return type(reason).__name__ if isinstance(reason, Exception) else str(reason)

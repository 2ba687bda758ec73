"""Who may ask: bearer tokens and TLS, both off unless files for them are named.

Probes stay open, in the clear and without a token, since the kubelet has none; so do metrics.

The files are looked at once a second, and read again when they have changed, as those of a mounted
Secret do when it is rotated. What cannot be used leaves what was known before in force.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from slipway_runtime.errors import InvalidArguments, Unauthorized
from slipway_runtime.server import page
from slipway_runtime.settings import ServeSettings

PROBES: Final = frozenset(("/v2/health/live", "/v2/health/ready", "/health", "/ping", "/metrics"))
# The pages themselves are not secret; the requests that they make need the token.
OPEN: Final = PROBES | page.PATHS

_SCHEME: Final = "bearer "
_LOOK_SECONDS: Final = 1.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Certificate:
    """A certificate with its chain and its key, as contexts for TLS."""

    context: ssl.SSLContext
    context_for_http2: ssl.SSLContext


class Tokens:
    """The tokens of a file, one a line; any of them will do, so that they can be replaced.

    None are known before `read`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tokens: list[bytes] = []

    def read(self) -> None:
        """Read the file.

        Raises:
            InvalidArguments: it cannot be read, or is empty.
        """
        lines = (line.strip() for line in _read(self._path, "SLIPWAY_TOKEN_FILE").splitlines())
        tokens = [line.encode() for line in lines if line]
        if not tokens:
            raise InvalidArguments(f"SLIPWAY_TOKEN_FILE names {self._path}, which holds no token")
        self._tokens = tokens

    def check(self, authorization: str | None) -> None:
        """Check the value of a request's header `authorization`.

        Raises:
            Unauthorized: it brings no token, or an unknown one.
        """
        value = authorization or ""
        if not value.lower().startswith(_SCHEME):
            raise Unauthorized("this server requires a token: send `authorization: Bearer TOKEN`")
        # As it came: headers are decoded as Latin-1.
        given = value[len(_SCHEME) :].strip().encode("latin-1", "replace")
        # All are compared, each in constant time: how long it takes tells nothing of them.
        if not sum(hmac.compare_digest(given, token) for token in self._tokens):
            raise Unauthorized("this token is not known here")


class Access:
    """What the settings' files ask of requests, at present.

    Raises:
        InvalidArguments: one of the files cannot be read, or used.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self._watched: list[_Watched] = []
        self.tokens: Tokens | None = None
        self.certificate: Certificate | None = None
        tokens, certificate, key = (
            settings.token_file,
            settings.tls_certificate,
            settings.tls_key,
        )
        if tokens is not None:
            self.tokens = Tokens(tokens)
            self._watch_over(self.tokens.read, tokens)
        if certificate is not None and key is not None:

            def read() -> None:
                self.certificate = _certificate(certificate, key)

            self._watch_over(read, certificate, key)
        elif certificate is not None or key is not None:
            raise InvalidArguments(
                "SLIPWAY_TLS_CERTIFICATE and SLIPWAY_TLS_KEY go together: set both"
            )

    def _watch_over(self, read: Callable[[], None], *paths: Path) -> None:
        self._watched.append(_Watched(paths, read))
        read()

    def context(self) -> ssl.SSLContext:
        """Return the context for the next TLS connection; only where there is a certificate."""
        assert self.certificate is not None
        return self.certificate.context

    def context_for_http2(self) -> ssl.SSLContext:
        """Return the same for a client that wants to speak HTTP/2."""
        assert self.certificate is not None
        return self.certificate.context_for_http2

    async def watch(self) -> None:
        """Read files again that have changed, until cancelled."""
        while self._watched:
            await asyncio.sleep(_LOOK_SECONDS)
            for watched in self._watched:
                watched.look()


class _Watched:
    """Files that are read again, all of them, when one has changed."""

    def __init__(self, paths: tuple[Path, ...], read: Callable[[], None]) -> None:
        self._paths = paths
        self._read = read
        self._state = self._stat()
        self._told = ""

    def look(self) -> None:
        state = self._stat()
        # What could not be read is tried again: its permissions may be corrected without any other
        # change.
        if state == self._state and not self._told:
            return
        self._state = state
        names = " and ".join(map(str, self._paths))
        try:
            self._read()
        except InvalidArguments as error:
            if str(error) != self._told:
                self._told = str(error)
                logger.warning("%s changed and cannot be used, the old is kept: %s", names, error)
        else:
            self._told = ""
            logger.info("%s changed and was read again", names)

    def _stat(self) -> list[object]:
        """Return what differs after a change; a mounted Secret's files are links, then others."""
        state: list[object] = []
        for path in self._paths:
            try:
                found = path.stat()
                state.append((found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns))
            except OSError as error:
                state.append(error.errno)
        return state


def _certificate(path: Path, key: Path) -> Certificate:
    """Read a certificate and its key.

    Raises:
        InvalidArguments: they cannot be read, or not be used together.
    """
    _read(path, "SLIPWAY_TLS_CERTIFICATE")
    _read(key, "SLIPWAY_TLS_KEY")
    contexts: list[ssl.SSLContext] = []
    for protocols in (["http/1.1"], ["h2"]):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(protocols)
        try:
            context.load_cert_chain(path, key)
        except (ssl.SSLError, OSError) as error:
            raise InvalidArguments(
                "SLIPWAY_TLS_CERTIFICATE and SLIPWAY_TLS_KEY cannot be used together:"
                f" {error.strerror or error}"
            ) from error
        contexts.append(context)
    return Certificate(*contexts)


def _read(path: Path, variable: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InvalidArguments(f"{variable} names {path}, which cannot be read: {why}") from error

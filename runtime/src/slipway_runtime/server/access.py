"""Who may ask: bearer tokens and TLS, both off unless files for them are named.

Probes stay open, in the clear and without a token, since the kubelet has none; so do metrics.
"""

from __future__ import annotations

import hmac
import ssl
from pathlib import Path
from typing import Final

from slipway_runtime.errors import InvalidArguments, Unauthorized
from slipway_runtime.settings import ServeSettings

PROBES: Final = frozenset(("/v2/health/live", "/v2/health/ready", "/health", "/ping", "/metrics"))
# The page itself tells nothing; what it then asks for needs the token.
OPEN: Final = PROBES | {"/", "/page.css", "/page.js"}

_SCHEME: Final = "bearer "


class Tokens:
    """The tokens of a file, one a line; any of them will do, so that they can be replaced."""

    def __init__(self, path: Path) -> None:
        lines = (line.strip() for line in _read(path, "SLIPWAY_TOKEN_FILE").splitlines())
        self._tokens = [line.encode() for line in lines if line]
        if not self._tokens:
            raise InvalidArguments(f"SLIPWAY_TOKEN_FILE names {path}, which holds no token")

    def check(self, authorization: str | None) -> None:
        """Check the value of a request's header `authorization`.

        Raises:
            Unauthorized: it brings no token, or an unknown one.
        """
        value = authorization or ""
        if not value.lower().startswith(_SCHEME):
            raise Unauthorized("this server wants a token: send `authorization: Bearer TOKEN`")
        given = value[len(_SCHEME) :].strip().encode("utf-8", "replace")
        # All are compared, each in constant time: how long it takes tells nothing of them.
        if not sum(hmac.compare_digest(given, token) for token in self._tokens):
            raise Unauthorized("this token is not known here")


def tokens_of(settings: ServeSettings) -> Tokens | None:
    """Return the tokens that requests must bring, if any.

    Raises:
        InvalidArguments: their file cannot be read, or is empty.
    """
    return None if settings.token_file is None else Tokens(settings.token_file)


def certificate_of(settings: ServeSettings) -> tuple[bytes, bytes] | None:
    """Return certificate chain and key as PEM, if TLS is asked for.

    Raises:
        InvalidArguments: one is not named, or cannot be read.
    """
    if settings.tls_certificate is None and settings.tls_key is None:
        return None
    if settings.tls_certificate is None or settings.tls_key is None:
        raise InvalidArguments("SLIPWAY_TLS_CERTIFICATE and SLIPWAY_TLS_KEY go together: set both")
    return (
        _read(settings.tls_certificate, "SLIPWAY_TLS_CERTIFICATE").encode(),
        _read(settings.tls_key, "SLIPWAY_TLS_KEY").encode(),
    )


def tls_context(settings: ServeSettings) -> ssl.SSLContext | None:
    """Return the context of the TLS port, if TLS is asked for.

    Raises:
        InvalidArguments: certificate or key cannot be used.
    """
    if certificate_of(settings) is None:
        return None
    assert settings.tls_certificate is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except (ssl.SSLError, OSError) as error:
        raise InvalidArguments(
            "SLIPWAY_TLS_CERTIFICATE and SLIPWAY_TLS_KEY cannot be used together:"
            f" {error.strerror or error}"
        ) from error
    return context


def _read(path: Path, variable: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InvalidArguments(f"{variable} names {path}, which cannot be read: {why}") from error

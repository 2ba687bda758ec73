"""Probes of programs that answer over TCP or HTTP on this machine."""

from __future__ import annotations

import socket
import ssl
import urllib.error
import urllib.request
from pathlib import Path

from slipway_dev.pki import Pair
from slipway_dev.wait import Probe

_TIMEOUT = 5
_ANSWER_BYTES = 2000


def tcp_probe(host: str, port: int) -> Probe:
    """Return a probe that holds once something takes connections at ``host:port``."""

    def probe() -> str | None:
        try:
            socket.create_connection((host, port), _TIMEOUT).close()
        except OSError as error:
            return f"{host}:{port}: {error}"
        return None

    return probe


def http_probe(url: str) -> Probe:
    """Return a probe that holds once `url` answers 200."""
    return lambda: _ask(url, None)


def https_probe(url: str, authority: Path, client: Pair | None = None) -> Probe:
    """Return a probe that holds once `url` answers 200 with a certificate of this authority."""

    def probe() -> str | None:
        context = ssl.create_default_context(cafile=authority)
        if client is not None:
            context.load_cert_chain(client.certificate, client.key)
        return _ask(url, context)

    return probe


def _ask(url: str, context: ssl.SSLContext | None) -> str | None:
    direct = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with direct.open(url, timeout=_TIMEOUT):
            return None
    except urllib.error.HTTPError as error:
        said = error.read(_ANSWER_BYTES).decode(errors="replace")
        return f"{url} answers {error.code}: {said}"
    except OSError as error:
        return f"{url}: {error}"

"""Certificate authorities: those of the system and those of SLIPWAY_CA_BUNDLE."""

from __future__ import annotations

import ssl
from pathlib import Path

from slipway_runtime.errors import InvalidArguments

_DEBIAN_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


def tls_context(ca_bundle: Path | None) -> ssl.SSLContext:
    """Return a client context that trusts the system's authorities and the bundle's.

    Raises:
        InvalidArguments: the bundle cannot be read or is not PEM.
    """
    context = ssl.create_default_context()
    if ca_bundle is not None:
        try:
            context.load_verify_locations(cafile=ca_bundle)
        except (OSError, ssl.SSLError) as error:
            raise InvalidArguments(
                f"SLIPWAY_CA_BUNDLE {ca_bundle} is not a readable PEM file of certificates:"
                f" {error.strerror or error}"
            ) from error
    return context


def system_bundle() -> Path | None:
    """Return the file of the system's authorities (SSL_CERT_FILE is honoured), if there is one."""
    # typeshed has it as str, but it is None where OpenSSL's own file is missing.
    for name in (ssl.get_default_verify_paths().cafile or "", _DEBIAN_BUNDLE):
        if name and Path(name).is_file():
            return Path(name)
    return None

"""Gives kopf the same credentials as our own client, so that there is one way to be configured."""

import ssl
from typing import Any

import kopf

from slipway_operator.reconcile.kube import load_configuration


class _Connection(kopf.ConnectionInfo):
    """As lenient about the form of certificates as our own client, and as strict about trust."""

    def as_ssl_context(self) -> ssl.SSLContext:
        """The context that kopf connects with."""
        context = super().as_ssl_context()
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context


async def login(**_: Any) -> kopf.ConnectionInfo:
    """kopf's login handler; asked again when a token expires."""
    configuration: Any = await load_configuration()
    credential: str = configuration.api_key.get("BearerToken") or ""
    scheme, _space, token = credential.partition(" ")
    return _Connection(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        scheme=scheme.capitalize() or None,
        token=token or None,
        proxy_url=configuration.proxy,
    )

"""Kubeconfig files: the address of an API server and the certificate to meet it with."""

from __future__ import annotations

import base64
from pathlib import Path

import yaml

from slipway_dev.pki import Pair


def render(cluster: str, server: str, authority: Path, client: Pair) -> str:
    """Render a kubeconfig that holds the certificates itself, so that it can be copied around."""
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": cluster,
                    "cluster": {
                        "server": server,
                        "certificate-authority-data": _encoded(authority),
                    },
                }
            ],
            "users": [
                {
                    "name": cluster,
                    "user": {
                        "client-certificate-data": _encoded(client.certificate),
                        "client-key-data": _encoded(client.key),
                    },
                }
            ],
            "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": cluster}}],
            "current-context": cluster,
        },
        sort_keys=False,
    )


def write(path: Path, content: str) -> None:
    """Write a kubeconfig that only its owner can read."""
    path.touch(mode=0o600)
    path.write_text(content)


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()

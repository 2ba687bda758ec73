"""The two images of the project, built from the Dockerfiles at the root of the checkout."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from slipway_dev import baseimage, debian, docker, paths
from slipway_dev.console import step
from slipway_dev.errors import DevError

NAMES = ("operator", "runtime")
# Built only by name: CUDA's libraries are gigabytes, and no machine of the tests has a GPU.
FLAVOURS = {
    "runtime-gpu": ("runtime", {"FLAVOR": "gpu"}),
    "runtime-openvino": ("runtime", {"FLAVOR": "openvino"}),
}
_CA_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE")


def reference(name: str, tag: str = "dev") -> str:
    """Return the full name of one of our images, as docker and the kubelet both take it."""
    return f"slipway/{name}:{tag}"


def build(
    names: Sequence[str] = NAMES, tag: str = "dev", mirror: str | None = None
) -> dict[str, int]:
    """Build the named images; return the size in bytes of each by its reference."""
    sizes: dict[str, int] = {}
    with docker.Daemon() as daemon:
        ensure_base(daemon, mirror)
        for name in names:
            file, arguments = FLAVOURS.get(name, (name, {}))
            dockerfile = paths.repository() / f"Dockerfile.{file}"
            image = reference(name, tag)
            if not dockerfile.exists():
                raise DevError(f"{dockerfile} is missing.")
            with step(f"Build {image}", spinner=False):
                daemon.build(
                    dockerfile,
                    paths.repository(),
                    image,
                    arguments={"BASE_IMAGE": baseimage.IMAGE, **arguments},
                    secrets=ca_secret(),
                )
            sizes[image] = daemon.size(image)
    return sizes


def built(names: Sequence[str] = NAMES, tag: str = "dev") -> dict[str, int]:
    """Return the size in bytes of each named image that was built on this machine."""
    if os.geteuid() != 0 or not docker.is_used_here():
        return {}
    with docker.Daemon() as daemon:
        references = [reference(name, tag) for name in names]
        return {image: daemon.size(image) for image in references if daemon.has(image)}


def ensure_base(daemon: docker.Daemon, mirror: str | None = None) -> None:
    """Give the daemon the base image if it lacks it."""
    if not daemon.has(baseimage.IMAGE):
        tar = baseimage.archive(mirror or debian.mirror())
        daemon.import_root(tar, baseimage.IMAGE, baseimage.SETTINGS)


def ca_secret() -> dict[str, Path]:
    """Return the machine's own bundle of authorities as a build secret, where one is set.

    Behind a proxy that inspects TLS, a build needs it to reach the package index.
    """
    for variable in _CA_VARIABLES:
        bundle = os.environ.get(variable)
        if bundle and Path(bundle).is_file():
            return {"ca": Path(bundle)}
    return {}

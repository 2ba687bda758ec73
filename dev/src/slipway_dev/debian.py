"""What the machine itself must have, from its own package sources."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from slipway_dev.console import step
from slipway_dev.errors import DevError

NODE_PACKAGES = ("containerd", "runc", "containernetworking-plugins", "nftables", "iproute2")
IMAGE_PACKAGES = ("docker.io", "debootstrap")


def ensure(packages: Sequence[str]) -> None:
    """Install what is missing of these packages; do nothing where all are there."""
    if shutil.which("dpkg-query") is None:
        raise DevError(
            "This is not a Debian: the development cluster takes its container tools from there.",
            f"Use a machine with Debian 12 or newer, or install: {', '.join(packages)}",
        )
    missing = [package for package in packages if not _installed(package)]
    if not missing:
        return
    if os.geteuid() != 0:
        raise DevError(
            f"Debian packages are missing: {', '.join(missing)}",
            f"Run as root, or: sudo apt-get install {' '.join(missing)}",
        )
    with step(f"Install {', '.join(missing)}") as detail:
        detail("apt-get update")
        _apt_get("update")
        detail("apt-get install")
        _apt_get("install", "--yes", "--no-install-recommends", *missing)


def mirror() -> str:
    """Return the Debian mirror that this machine itself uses."""
    found = parse_mirror(_index_targets())
    if found is None:
        raise DevError(
            "The package sources of this machine name no Debian mirror.",
            "Name one with --mirror URL.",
        )
    return found


def parse_mirror(targets: str) -> str | None:
    """Return the address of Debian's main archive from `apt-get indextargets` as asked below."""
    for line in targets.splitlines():
        address, _, rest = line.partition("|")
        if rest == "Debian|Debian|main":
            return address.rstrip("/")
    return None


def _index_targets() -> str:
    # apt reads both of its own formats of sources; asked like this it tells one line for each.
    form = "$(REPO_URI)|$(ORIGIN)|$(LABEL)|$(COMPONENT)"
    command = ["apt-get", "indextargets", "--format", form, "Created-By: Packages"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _installed(package: str) -> bool:
    command = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout == "installed"


def _apt_get(*arguments: str) -> None:
    done = subprocess.run(
        ["apt-get", "--quiet", *arguments],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise DevError(
            f"apt-get {' '.join(arguments)}: {done.stderr.strip()}",
            "The machine's Debian mirror must be reachable for the first set-up.",
        )

"""Where things lie: the sources, the caches that outlive a cluster, the state that does not."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def repository() -> Path:
    """Return the checkout that this package is run from."""
    return Path(__file__).resolve().parents[3]


def tool_modules() -> Path:
    """Return the folder of the Go modules that pin the tools."""
    return repository() / "dev" / "tools"


def cache() -> Path:
    """Return the folder of what is slow to make again: binaries, the base image, image layers."""
    chosen = os.environ.get("SLIPWAY_CACHE")
    if chosen:
        return Path(chosen).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "slipway"


def state() -> Path:
    """Return the folder that holds one subfolder for each live cluster or service."""
    chosen = os.environ.get("SLIPWAY_STATE")
    if chosen:
        return Path(chosen).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/slipway-dev")
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "slipway-dev"


def forget_empty_state() -> None:
    """Remove the state folder once nothing is in it."""
    with suppress(OSError):
        state().rmdir()

"""What is decided once for a cluster and must be the same whenever one of its programs starts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from slipway_dev import paths
from slipway_dev.pki import Pair, pair

_FILE = "cluster.json"


class Size(StrEnum):
    """How much of Kubernetes a cluster has."""

    CONTROL_PLANE = "control-plane"
    """An API server with its controllers and scheduler: pods are never run."""
    NODE = "node"
    """One real node as well, on this machine."""
    KWOK = "kwok"
    """Nodes that exist only as objects, and pods that become ready at once."""


@dataclass(frozen=True)
class State:
    """The facts of one cluster, kept in its folder."""

    name: str
    size: Size
    ports: dict[str, int]
    forwarded: bool = False
    """Whether the machine forwarded packets before the cluster came, to put it back."""
    absent: tuple[str, ...] = ()
    """The folders with fixed places that were not there before, to remove them."""
    failed: bool = False
    """Whether the cluster did not come up: all of it is gone but this folder with its logs."""

    @property
    def folder(self) -> Path:
        """The folder of everything that goes with the cluster."""
        return folder(self.name)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.folder / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        """The file the API server writes an event to for each request."""
        return self.folder / "audit" / "audit.log"

    @property
    def authority(self) -> Path:
        """The certificate that all others of the cluster are signed with."""
        return self.certificate("ca").certificate

    def certificate(self, name: str) -> Pair:
        """Return a certificate of the cluster and its key."""
        return pair(self.folder / "pki", name)

    def save(self) -> None:
        """Write the facts down."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / _FILE).write_text(json.dumps(asdict(self), indent=2))


def folder(name: str) -> Path:
    """Return the folder of a cluster."""
    return paths.state() / name


def load(name: str) -> State | None:
    """Return the facts of a cluster, or None if there is none of that name."""
    try:
        facts: Any = json.loads((folder(name) / _FILE).read_text())
        return State(
            name=facts["name"],
            size=Size(facts["size"]),
            ports=facts["ports"],
            forwarded=facts["forwarded"],
            absent=tuple(facts["absent"]),
            failed=facts.get("failed", False),
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None


def all_clusters() -> list[State]:
    """Return the clusters that have state on this machine, live or not."""
    folders = sorted(paths.state().glob(f"*/{_FILE}"))
    return [known for path in folders if (known := load(path.parent.name)) is not None]

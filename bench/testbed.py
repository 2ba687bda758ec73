"""A control plane with simulated nodes and the chart's rights, for the programs of this folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from operator_kit.api import Api
from operator_kit.audit import AuditLog
from operator_kit.fake_kubelet import FakeKubelet
from operator_kit.installation import NAMESPACE, RELEASE, Installation
from operator_kit.operator_process import Image, OperatorProcess
from operator_kit.space import Space

from slipway_dev import docker, images
from slipway_dev import state as states
from slipway_dev.cluster import Cluster
from slipway_dev.console import say, step

_PATIENT = {
    "namespace": NAMESPACE,
    "name": RELEASE,
    "durationSeconds": 60,
    "renewDeadlineSeconds": 50,
    "retryPeriodSeconds": 1,
}


@dataclass
class Testbed:
    """A cluster of size kwok; its pods become ready by themselves."""

    cluster: Cluster
    api: Api
    installation: Installation
    audit: AuditLog
    folder: Path
    image: Image

    def __post_init__(self) -> None:
        self._numbers = count(1)
        self._operators: list[OperatorProcess] = []

    def operator(self, *, patient: bool = False) -> OperatorProcess:
        """A new process of the operator, with the chart's configuration; not started yet.

        A ``patient`` one keeps its Lease for a minute: it fills a cluster on a busy machine.
        """
        name = f"operator-{next(self._numbers)}"
        changes: dict[str, Any] = {"leaderElection": _PATIENT} if patient else {}
        process = OperatorProcess(self.installation, self.folder, name, changes, image=self.image)
        self._operators.append(process)
        return process

    def space(self, name: str) -> Space:
        """A new namespace."""
        # Never started: it would play a node of its own.
        return Space(self.api, FakeKubelet(self.api), name).create()

    def end_operators(self) -> None:
        """Leave neither a process nor a Lease to be waited out."""
        for process in self._operators:
            process.kill()
        self.api.delete("leases", NAMESPACE, RELEASE)

    def tails(self) -> str:
        """The ends of their logs."""
        return "\n\n".join(process.tail() for process in self._operators)


def _unpacked(folder: Path) -> Image:
    """The operator's image, built if need be."""
    images.build(["operator"])
    with docker.Daemon() as daemon, step("Unpack the image"):
        return Image(folder, daemon.unpack(images.reference("operator"), folder))


@contextmanager
def testbed(name: str) -> Iterator[Testbed]:
    """Bring it up, and take it down again; its operators run from their image."""
    with tempfile.TemporaryDirectory() as folder, Cluster(name, "kwok") as cluster:
        image = _unpacked(Path(folder) / "image")
        api = Api.of_cluster(cluster.name)
        installation = Installation(cluster, api)
        installation.install()
        state = states.load(cluster.name)
        assert state is not None
        bed = Testbed(cluster, api, installation, AuditLog(state.audit_log), Path(folder), image)
        try:
            yield bed
        except BaseException:
            say(bed.tails())
            raise
        finally:
            bed.end_operators()

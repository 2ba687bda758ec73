"""Several operators side by side, each started again when it ends, as the kubelet does."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from operator_kit.installation import Installation
from operator_kit.operator_process import OperatorProcess

_LOOK_SECONDS = 0.25
_SAMPLE_SECONDS = 5.0


@dataclass(frozen=True)
class Sample:
    """What one process used at one moment."""

    at: float
    pid: int
    leads: bool
    resident_bytes: int
    cpu_seconds: float


class Replicas:
    """The operator's Deployment, without a cluster to run it."""

    def __init__(
        self, installation: Installation, folder: Path, count: int, settings: dict[str, Any]
    ) -> None:
        self.processes = [
            OperatorProcess(installation, folder, f"operator-{number}", settings)
            for number in range(count)
        ]
        self.samples: list[Sample] = []
        self.exits: list[int | None] = []
        self._over = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True, name="replicas")

    def start(self) -> Replicas:
        """Start all, and wait until one leads."""
        for process in self.processes:
            process.start()
            process.until_ready()
        self._keeper.start()
        return self

    def stop(self) -> None:
        """End all for good."""
        self._over.set()
        self._keeper.join()
        for process in self.processes:
            process.kill()

    def leader(self) -> OperatorProcess | None:
        """The one that says that it leads, if one does."""
        return next((process for process in self.processes if _leads(process)), None)

    def standby(self) -> OperatorProcess | None:
        """One that does not."""
        leader = self.leader()
        others = (p for p in self.processes if p is not leader and p.running())
        return next(others, None)

    def tail(self) -> str:
        """The ends of their logs."""
        return "\n\n".join(process.tail() for process in self.processes)

    def _keep(self) -> None:
        sampled = 0.0
        while not self._over.wait(_LOOK_SECONDS):
            for process in self.processes:
                if not process.running():
                    self.exits.append(process.returned)
                    process.start()
            if time.monotonic() - sampled >= _SAMPLE_SECONDS:
                sampled = time.monotonic()
                self._sample()

    def _sample(self) -> None:
        for process in self.processes:
            try:
                self.samples.append(
                    Sample(
                        time.monotonic(),
                        process.pid,
                        _leads(process),
                        process.resident_bytes(),
                        process.cpu_seconds(),
                    )
                )
            except (AssertionError, OSError, IndexError):
                continue  # it has just ended


def _leads(process: OperatorProcess) -> bool:
    try:
        return process.running() and process.leads()
    except AssertionError:
        return False

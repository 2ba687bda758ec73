"""One supervised part of a cluster: how it is started and when it is ready."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from slipway_dev.process import Program
from slipway_dev.wait import Probe


class Stage(IntEnum):
    """What must be ready before a component may be started: all of the stages before its own."""

    STORES = 0
    API = 1
    CLIENTS = 2


@dataclass(frozen=True)
class Component:
    """A program of a cluster with all that is needed to start it again."""

    name: str
    stage: Stage
    command: Sequence[str | Path]
    probe: Probe
    timeout: float = 30
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    afterwards: Callable[[], None] | None = None

    def launch(self, folder: Path) -> None:
        """Start the program, whose pid and log are kept below `folder`."""
        Program(self.name, folder).start(self.command, self.env)

    def wait(self, folder: Path) -> None:
        """Return when the launched program is ready."""
        program = Program(self.name, folder)
        program.wait_until(f"{self.name} is ready", self.probe, self.timeout)
        if self.afterwards is not None:
            self.afterwards()


def start_all(parts: Sequence[Component], folder: Path) -> None:
    """Start the parts of a cluster, those of one stage side by side."""
    for stage in Stage:
        of_stage = [part for part in parts if part.stage is stage]
        for part in of_stage:
            part.launch(folder)
        for part in of_stage:
            part.wait(folder)

"""What users asked for and what they were told: the record that the end is judged by.

Nothing in here looks at what the operator does, but for one thing: a version that the status once
called Ready must be the one to return to, since people rely on what they were told.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from enum import Enum, auto

_SERIAL = itertools.count(1)
"""Tells versions apart whose models bore the same name one after the other."""


class Expectation(Enum):
    """What must have become of one ModelDeployment once nothing changes any more."""

    SERVED = auto()
    """The version asked for is sound: all its pods serve, and nothing else does."""

    REFUSED = auto()
    """It was broken from the start: not Ready, and what was good before serves on."""

    FAILING = auto()
    """It broke after it was told to be Ready: it stays, and is not Ready."""

    SUSPENDED = auto()
    """Nothing is written but counts."""

    UNSURE = auto()
    """It broke or healed in the middle of a rollout: either end is right if the status is true."""


@dataclass
class Artifact:
    """The bytes behind one version."""

    sound: bool = True
    changed_at: float | None = None
    """When it last broke or was mended; None when it is as it was when it was pushed."""

    @property
    def reliable(self) -> bool:
        """Whether it has always been sound."""
        return self.sound and self.changed_at is None


@dataclass
class Ask:
    """One version that the spec named, from the moment it did."""

    version: str
    since: float = field(default_factory=time.monotonic)
    told_ready: bool = False
    retried_at: float | None = None


@dataclass
class Asked:
    """One ModelDeployment as its user knows it."""

    name: str
    replicas: int
    asks: list[Ask]
    artifacts: dict[str, Artifact]
    suspended: bool = False
    pushed: int = 0

    @property
    def version(self) -> str:
        """The version that the spec names."""
        return self.asks[-1].version

    @property
    def artifact(self) -> Artifact:
        """Its bytes."""
        return self.artifacts[self.version]

    def push(self, *, sound: bool) -> str:
        """A new version of the model."""
        self.pushed += 1
        version = f"{self.name}-{self.pushed}-{next(_SERIAL)}"
        self.artifacts[version] = Artifact(sound=sound)
        return version

    def ask(self, version: str) -> None:
        """The spec names another version."""
        self.asks.append(Ask(version))

    def flip(self, *, sound: bool) -> None:
        """The artifact of the present version breaks, or is mended."""
        artifact = self.artifact
        if artifact.sound != sound:
            artifact.sound = sound
            artifact.changed_at = time.monotonic()

    def expectation(self) -> Expectation:
        """What must become of it."""
        ask, artifact = self.asks[-1], self.artifact
        if self.suspended:
            return Expectation.SUSPENDED
        if artifact.sound:
            retried = ask.retried_at is not None and ask.retried_at > (artifact.changed_at or 0)
            return Expectation.SERVED if artifact.reliable or retried else Expectation.UNSURE
        if ask.told_ready:
            return Expectation.FAILING
        never_good = artifact.changed_at is None
        return Expectation.REFUSED if never_good else Expectation.UNSURE

    def fallback(self) -> str | None:
        """The version that serves while the present one is refused; None when that is not sure."""
        for ask in reversed(self.asks[:-1]):
            artifact = self.artifacts[ask.version]
            if ask.told_ready:
                return ask.version if artifact.reliable else None
            if artifact.sound or artifact.changed_at is not None:
                return None  # it may have been served without anybody having been told
        return None

"""A soak: users and faults for a while, with checkpoints at which everything must be in order."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from operator_kit.api import ApiError, Unreachable
from operator_kit.eventually import eventually
from operator_kit.kstatus import kstatus
from operator_kit.space import Space

from slipway_dev.cluster import Cluster
from soak_kit.asked import Expectation
from soak_kit.faults import Saboteur
from soak_kit.oracle import World, complaints
from soak_kit.replicas import Replicas
from soak_kit.users import Users

_KSTATUS = {Expectation.SERVED: "Current", Expectation.FAILING: "InProgress"}


@dataclass(frozen=True)
class Pace:
    """How long, and how much of what."""

    seconds: float
    models: int
    action_every: float = 1.0
    meddling: float = 0.2
    """The share of actions beside which a child or a status is spoilt."""
    strike_every: float = 45.0
    checkpoint_every: float = 300.0
    checkpoint_within: float = 300.0


@dataclass
class Outcome:
    """What came of it."""

    checkpoints: list[float] = field(default_factory=list)
    """Seconds until all was in order, for each checkpoint passed."""
    violations: list[str] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    """The machine's 1-minute load at the end of each checkpoint."""
    expectations: dict[str, int] = field(default_factory=dict)


class Soak:
    """One run; the same seed rolls the same dice."""

    def __init__(
        self,
        cluster: Cluster,
        space: Space,
        replicas: Replicas,
        pace: Pace,
        seed: int,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.pace = pace
        self.outcome = Outcome()
        self.users = Users(space, random.Random(seed), pace.models)
        self.saboteur = Saboteur(
            cluster, space, replicas, self.users.population, random.Random(seed + 1)
        )
        self.half_time = 0.0
        self._dice = random.Random(seed + 2)
        self._space = space
        self._tell = tell

    def run(self) -> Outcome:
        """Live, be judged every while, mend everything, and be judged for the last time."""
        began = time.monotonic()
        end = began + self.pace.seconds
        self.half_time = began + self.pace.seconds / 2
        while (now := time.monotonic()) < end:
            self._live(min(now + self.pace.checkpoint_every, end))
            self._checkpoint(f"after {time.monotonic() - began:.0f} s")
        self.users.mend_everything()
        self._checkpoint("with everything mended")
        self._ask_kstatus()
        return self.outcome

    def _live(self, end: float) -> None:
        strike_at = time.monotonic() + self._dice.uniform(0.2, 1) * self.pace.strike_every
        while time.monotonic() < end:
            tick = time.monotonic()
            self.users.act()
            self._listen()
            if self._dice.random() < self.pace.meddling:
                self._meddle()
            if time.monotonic() >= strike_at:
                self.saboteur.strike(leader_too=tick < self.half_time)
                strike_at += self._dice.uniform(0.5, 1.5) * self.pace.strike_every
            rest = self._dice.uniform(0.5, 1.5) * self.pace.action_every
            time.sleep(max(0.0, tick + rest - time.monotonic()))

    def _listen(self) -> None:
        with contextlib.suppress(ApiError, Unreachable):
            self.users.listen()

    def _meddle(self) -> None:
        """Who meddles gives up where the API server is away, or the object just went."""
        with contextlib.suppress(ApiError, Unreachable):
            self.saboteur.meddle()

    def _checkpoint(self, name: str) -> None:
        began = time.monotonic()

        def in_order() -> None:
            self.users.listen()
            world = World.of(self._space.api, self._space.namespace)
            found = complaints(world, self._space, self.users.population)
            assert not found, "\n".join(found)

        try:
            eventually(in_order, self.pace.checkpoint_within, interval=1.0)
        except AssertionError as error:
            self.outcome.violations.append(f"{name}: {error}")
            self._tell(f"{name}: {error}")
        else:
            seconds = time.monotonic() - began
            self.outcome.checkpoints.append(round(seconds, 1))
            self._tell(f"{name}: {len(self.users.population)} in order within {seconds:.1f} s")
        self.outcome.loads.append(round(os.getloadavg()[0], 1))
        for asked in self.users.population.values():
            kind = asked.expectation().name
            self.outcome.expectations[kind] = self.outcome.expectations.get(kind, 0) + 1

    def _ask_kstatus(self) -> None:
        """What the kstatus library says of each, at the end."""
        for name, asked in self.users.population.items():
            obj = self._space.api.get("modeldeployments", self._space.namespace, name)
            wanted = _KSTATUS.get(asked.expectation())
            if obj is not None and wanted and (said := kstatus(obj)) != wanted:
                self.outcome.violations.append(f"kstatus calls {name} {said}")

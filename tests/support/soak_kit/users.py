"""Users who create, change, break, mend and delete ModelDeployments, by a seeded dice."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from operator_kit import pod_status
from operator_kit.api import ApiError, Unreachable
from operator_kit.eventually import eventually
from operator_kit.pod_status import Behaviour
from operator_kit.space import Space, View

from soak_kit.asked import Ask, Asked

_DEADLINE_SECONDS = 30
_QUIET_BEFORE_RETRY = 5.0
_PATIENCE_SECONDS = 240.0

_WAYS_TO_BREAK: tuple[Behaviour, ...] = (
    pod_status.fetch_fails(20, "DigestMismatch", "other bytes"),
    pod_status.fetch_fails(31, "AccessDenied", "403", restarts=2),
    pod_status.serve_fails(21, 1, pod_status.told("InvalidModel", "no graph")),
    pod_status.out_of_memory(restarts=5),
    pod_status.loading,
)


def persist(ask: Callable[[], object]) -> None:
    """Ask again and again, as users do while the API server is away."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            ask()
        except (ApiError, Unreachable):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return


class Users:
    """They act on one namespace; what they asked for is in ``population``."""

    def __init__(self, space: Space, dice: random.Random, size: int) -> None:
        self.population: dict[str, Asked] = {}
        self.actions: dict[str, int] = {}
        self._space = space
        self._dice = dice
        self._size = size
        self._deeds: tuple[tuple[int, Callable[[Asked], None]], ...] = (
            (22, self._new_version),
            (10, self._broken_version),
            (8, self._break),
            (14, self._mend),
            (8, self._retry),
            (10, self._scale),
            (7, self._revert),
            (5, self._suspend_or_resume),
            (8, self._delete),
            (8, self._recreate),
        )

    def act(self) -> None:
        """One user does one thing."""
        missing = self._size - len(self.population)
        if missing and (self._dice.random() < 0.3 or missing > self._size // 5):
            self._count("create")
            self._create(next(n for n in self._names() if n not in self.population))
            return
        asked = self.population[self._dice.choice(sorted(self.population))]
        weights = [weight for weight, _ in self._deeds]
        (_, deed) = self._dice.choices(self._deeds, weights)[0]
        deed(asked)

    def listen(self) -> None:
        """Take note of what users are told to be Ready, and to serve.

        One that is scaled to zero is Ready as well, and has shown nothing.
        """
        for obj in self._space.api.list("modeldeployments", self._space.namespace):
            asked, view = self.population.get(obj["metadata"]["name"]), View(obj)
            if asked is None or asked.suspended or not view.settled:
                continue  # one that is suspended keeps saying what was true before
            digest = self._space.digest(asked.version)
            if obj["spec"]["model"]["digest"] == digest == view.serving:
                asked.asks[-1].told_ready = True

    def mend_everything(self) -> None:
        """Mend each artifact, resume, and ask for another try."""
        for name in sorted(self.population):
            asked = self.population[name]
            for version, artifact in asked.artifacts.items():
                if not artifact.sound:
                    artifact.sound, artifact.changed_at = True, time.monotonic()
                    self._behave(version, pod_status.ready)
            asked.suspended = False
            self._apply(asked)
        time.sleep(_QUIET_BEFORE_RETRY)
        for name in sorted(self.population):
            self._ask_for_a_retry(self.population[name])

    # ---- deeds ----

    def _names(self) -> list[str]:
        return [f"model-{number:03d}" for number in range(self._size)]

    def _count(self, deed: str) -> None:
        self.actions[deed] = self.actions.get(deed, 0) + 1

    def _create(self, name: str) -> None:
        asked = Asked(name, self._dice.choice((1, 1, 2, 3)), [], {})
        asked.asks.append(Ask(self._push(asked, sound=self._dice.random() < 0.9)))
        self.population[name] = asked
        self._apply(asked)

    def _push(self, asked: Asked, *, sound: bool) -> str:
        version = asked.push(sound=sound)
        if not sound:
            self._behave(version, self._dice.choice(_WAYS_TO_BREAK))
        return version

    def _apply(self, asked: Asked) -> None:
        spec = {
            "replicas": asked.replicas,
            "suspend": asked.suspended,
            "rollout": {"progressDeadlineSeconds": _DEADLINE_SECONDS},
        }
        persist(lambda: self._space.apply(asked.name, asked.version, **spec))

    def _behave(self, version: str, behaviour: Behaviour) -> None:
        persist(lambda: self._space.behave(version, behaviour))

    def _new_version(self, asked: Asked) -> None:
        self._count("new version")
        asked.ask(self._push(asked, sound=True))
        self._apply(asked)

    def _broken_version(self, asked: Asked) -> None:
        self._count("broken version")
        asked.ask(self._push(asked, sound=False))
        self._apply(asked)

    def _break(self, asked: Asked) -> None:
        self._count("break")
        if asked.artifact.sound:
            asked.flip(sound=False)
            self._behave(asked.version, self._dice.choice(_WAYS_TO_BREAK))

    def _mend(self, asked: Asked) -> None:
        self._count("mend")
        if not asked.artifact.sound:
            asked.flip(sound=True)
            self._behave(asked.version, pod_status.ready)

    def _retry(self, asked: Asked) -> None:
        changed = asked.artifact.changed_at or 0
        # Sooner, pods may still be known for what they were before.
        if time.monotonic() - changed > _QUIET_BEFORE_RETRY:
            self._count("retry")
            self._ask_for_a_retry(asked)

    def _ask_for_a_retry(self, asked: Asked) -> None:
        token = {"slipway.dev/retry": str(self._dice.random())}
        patch = {"metadata": {"annotations": token}}
        api, namespace = self._space.api, self._space.namespace
        persist(lambda: api.patch("modeldeployments", namespace, asked.name, patch))
        asked.asks[-1].retried_at = time.monotonic()

    def _scale(self, asked: Asked) -> None:
        self._count("scale")
        asked.replicas = self._dice.choice((0, 1, 1, 2, 3))
        self._apply(asked)

    def _revert(self, asked: Asked) -> None:
        others = sorted({ask.version for ask in asked.asks} - {asked.version})
        if others:
            self._count("revert")
            asked.ask(self._dice.choice(others))
            self._apply(asked)

    def _suspend_or_resume(self, asked: Asked) -> None:
        self._count("suspend or resume")
        asked.suspended = not asked.suspended
        self._apply(asked)

    def _delete(self, asked: Asked) -> None:
        self._count("delete")
        self._remove(asked)

    def _remove(self, asked: Asked) -> None:
        del self.population[asked.name]
        persist(lambda: self._space.delete(asked.name))

    def _recreate(self, asked: Asked) -> None:
        """Delete, and create again under the same name at once."""
        self._count("delete and create")
        self._remove(asked)
        gone = asked.name

        def absent() -> None:
            api, namespace = self._space.api, self._space.namespace
            assert api.get("modeldeployments", namespace, gone) is None

        eventually(absent)
        self._create(gone)

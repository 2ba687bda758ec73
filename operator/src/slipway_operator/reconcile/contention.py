"""Notices when somebody else keeps changing a child back, and then leaves it alone for a while.

Both sides would write forever otherwise. What is counted lives in this process alone: another
leader starts over, which costs three more writes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from slipway_operator.api.model_deployment import Json
from slipway_operator.reconcile.difference import differing, manager_of, owned_by_us
from slipway_operator.reconcile.observation import Impediment, Obstacle

_OVERWRITES = 3
_TRIAL_SECONDS = 30.0

ChildId = tuple[str, str]
"""The ModelDeployment's uid and the child's kind."""

Rival = tuple[str, str]
"""A field, and the manager that set it to another value; "" where there can be none."""


def rivals(child: Json, live: Json) -> list[Rival]:
    """Who made a live child differ, field by field.

    A field that is still ours differs because something else is wanted of it now: whoever changes a
    value takes the field over with it.
    """
    return [
        (spelled(path), "" if owned_by_us(live, path) else manager_of(live, path) or "")
        for path in differing(child, live)
    ]


def spelled(path: tuple[str, ...]) -> str:
    """A field as people write it: spec.template.spec.containers[serve].image."""
    return ".".join(path).replace(".[", "[")


@dataclass
class _Fight:
    """About one field, with one other manager; times of a monotonic clock.

    Attributes:
        overwritten: when we put the field back, latest last.
        until: the field is left alone until then.
        trial: when it was put back once more, or found as wanted, to see whether it stays so.
    """

    overwritten: list[float] = field(default_factory=list[float])
    until: float | None = None
    trial: float | None = None

    @property
    def last(self) -> float:
        """The latest moment that still matters."""
        return max(self.until or 0.0, self.trial or 0.0, *self.overwritten, 0.0)


class Contention:
    """Counts, for each field of each child, how often somebody changed it back.

    After three times within ``backoff_seconds`` the field is left alone for as long. Then it is
    put back once; if it is changed again within that time, the operator yields at once.
    """

    def __init__(
        self, backoff_seconds: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._backoff = backoff_seconds
        self._trial = min(_TRIAL_SECONDS, backoff_seconds)
        self._monotonic = monotonic
        self._fights: dict[ChildId, dict[Rival, _Fight]] = {}

    def yields(self, child: ChildId, contested: list[Rival]) -> bool:
        """Whether the child is to be left alone now.

        Only when everything that differs is fought over: a new template is applied all the same.
        """
        now = self._monotonic()
        self._forget(now)
        known = self._fights.get(child, {})
        fights = [known.get(rival) for rival in contested]
        for fight in fights:
            if fight is None or (fight.until is not None and fight.until > now):
                continue
            recent = [at for at in fight.overwritten if at > now - self._backoff]
            if fight.until is None and (fight.trial is not None or len(recent) >= _OVERWRITES):
                fight.until, fight.trial = now + self._backoff, None
        return bool(fights) and all(
            fight is not None and fight.until is not None and fight.until > now for fight in fights
        )

    def overwrote(self, child: ChildId, contested: list[Rival]) -> None:
        """The child was written, which overwrote what others had set."""
        now = self._monotonic()
        for rival in contested:
            if not rival[1]:
                continue
            fight = self._fights.setdefault(child, {}).setdefault(rival, _Fight())
            fight.overwritten.append(now)
            if fight.until is not None:
                fight.until, fight.trial = None, now

    def agrees(self, child: ChildId) -> None:
        """The child is as wanted: whoever changed it has stopped, for now."""
        for fight in self._fights.get(child, {}).values():
            if fight.until is not None:
                fight.until, fight.trial = None, self._monotonic()

    def obstacle(self, child: ChildId, name: str) -> Obstacle | None:
        """What to say about a child; None when nobody fights over it."""
        now = self._monotonic()
        ends = {
            rival: end
            for rival, fight in self._fights.get(child, {}).items()
            if (end := self._end(fight)) > now
        }
        if not ends:
            return None
        where, rival = min(ends)
        return Obstacle(
            Impediment.FIELD_CONFLICT,
            f"'{rival}' keeps changing {where} of the {child[1]} '{name}' back: it is left so, and "
            f"tried again every {self._backoff:.0f} s; make '{rival}' leave this field alone",
            retry_after=min(ends.values()) - now,
        )

    def _end(self, fight: _Fight) -> float:
        if fight.until is not None:
            return fight.until
        return 0.0 if fight.trial is None else fight.trial + self._trial

    def _forget(self, now: float) -> None:
        """Drop what is too old to count."""
        for child, fights in list(self._fights.items()):
            kept = {rival: f for rival, f in fights.items() if f.last >= now - self._backoff}
            if kept:
                self._fights[child] = kept
            else:
                del self._fights[child]

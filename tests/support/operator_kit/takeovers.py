"""Forces leaders out while rollouts are under way, and proves that nothing was done twice.

Who wrote what is told by the API server's audit log: every process has a credential of its own.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from operator_kit import pod_status
from operator_kit.audit import AuditLog, Request
from operator_kit.eventually import eventually
from operator_kit.operator_process import OperatorProcess
from operator_kit.space import Space

_WRITES = {"create", "update", "patch", "delete", "deletecollection"}
_LONGEST_LEAD = 0.6
_WITHIN = 120.0
_BAD = pod_status.fetch_fails(20, "DigestMismatch", "other bytes")


class Way(StrEnum):
    """How a leader is forced out."""

    KILLED = "killed"
    STOPPED = "stopped"
    """With SIGSTOP, and continued when another leads."""
    ASKED = "asked to end"


_SIGNALS = {
    Way.KILLED: signal.SIGKILL,
    Way.STOPPED: signal.SIGSTOP,
    Way.ASKED: signal.SIGTERM,
}


@dataclass(frozen=True)
class Takeover:
    """One change of leaders; seconds from the signal.

    Attributes:
        leads: until the Lease is the new leader's.
        writes: until the first write of the new leader that is not to the Lease.
    """

    way: Way
    leads: float
    writes: float


def _moment(request: Request) -> float:
    return datetime.fromisoformat(request.ended).timestamp()


class Takeovers:
    """A leader, another operator that waits, and models that are rolled out all the time."""

    def __init__(
        self,
        launch: Callable[[str], OperatorProcess],
        space: Space,
        audit: AuditLog,
        models: int,
        seed: int,
    ) -> None:
        self._launch = launch
        self._space = space
        self._audit = audit
        self._random = random.Random(seed)
        self._names = [f"m{number}" for number in range(models)]
        self._version = 0
        self._leader = self._new_operator().until_leading()
        self._other = self._new_operator().until_ready()
        self.operators = [self._leader, self._other]
        self.good: Counter[str] = Counter()
        self.bad: Counter[str] = Counter()

    def _new_operator(self) -> OperatorProcess:
        return self._launch("operator")

    def prepare(self) -> None:
        """A first version of every model is served."""
        self._roll(bad=set())
        self._settled(bad=set())

    def force(self, way: Way) -> Takeover:
        """Begin rollouts, force the leader out in the middle, and wait until all is settled."""
        bad = set(self._random.sample(self._names, len(self._names) // 3))
        self._roll(bad)
        # The moment is the subject: anywhere in what the leader has to do.
        time.sleep(self._random.uniform(0.0, _LONGEST_LEAD))
        mark, struck = self._audit.mark(), time.time()
        self._leader.signal(_SIGNALS[way])
        leads, writes = eventually(lambda: self._taken_over(mark), _WITHIN, self._other.tail)
        if way is Way.STOPPED:
            self._leader.signal(signal.SIGCONT)
        self._leader.exit_code()
        self._leader, self._other = self._other, self._new_operator()
        self.operators.append(self._other)
        self._settled(bad)
        self._other.until_ready()
        return Takeover(way, leads - struck, writes - struck)

    def _roll(self, bad: set[str]) -> None:
        self._version += 1
        for name in self._names:
            version = self._named(name)
            if name in bad:
                self._space.behave(version, _BAD)
                self.bad[name] += 1
            else:
                self.good[name] += 1
            self._space.apply(name, version)

    def _named(self, name: str) -> str:
        return f"{name}-v{self._version}"

    def _settled(self, bad: set[str]) -> None:
        for name in self._names:
            digest = self._space.digest(self._named(name))
            if name in bad:
                self._space.until(
                    "went back",
                    lambda m, d=digest: (
                        m.current
                        and m.stalled == "RolledBack"
                        and m.status["lastFailure"]["digest"] == d
                    ),
                    name,
                    within=_WITHIN,
                )
            else:
                self._space.until(
                    "is served",
                    lambda m, d=digest: m.settled and m.serving == d,
                    name,
                    within=_WITHIN,
                )

    def _taken_over(self, mark: int) -> tuple[float, float]:
        done = [
            request
            for request in self._audit.since(mark, self._other.credential)
            if request.verb in _WRITES and request.code < 300
        ]
        leads = next((_moment(r) for r in done if r.resource == "leases"), None)
        writes = next((_moment(r) for r in done if r.resource != "leases"), None)
        assert leads is not None, "nobody leads"
        assert writes is not None, "nobody works"
        return leads, writes

    # ---- the proof ----

    def double_actions(self, requests: Sequence[Request]) -> list[str]:
        """What was done twice, or by one that no longer led; in words.

        Args:
            requests: all of these operators, oldest first.
        """
        done = [r for r in requests if r.verb in _WRITES and r.code < 300]
        return [
            *writes_without_lease(done),
            *_created_twice(done),
            *_judged_twice(done),
            *self._rolled_twice(),
            *self._told_twice(),
        ]

    def _rolled_twice(self) -> Iterable[str]:
        """Each good version changes the template once, each bad one there and back."""
        for name in self._names:
            expected = self.good[name] + 2 * self.bad[name]
            seen = self._space.deployment(name)["metadata"]["generation"]
            if seen != expected:
                yield f"Deployment {name} has generation {seen}, not {expected}"

    def _told_twice(self) -> Iterable[str]:
        for name in self._names:
            told = Counter(
                event["message"]
                for event in self._space.events(name)
                if event["reason"] == "RolledBack"
            )
            yield from (f"told twice of {name}: {text}" for text, n in told.items() if n > 1)


def writes_without_lease(done: Sequence[Request]) -> list[str]:
    """Writes of one process after another had taken the Lease.

    Only the holder writes a Lease: a successful write of it by somebody else is a takeover.
    """
    leader, found = "", []
    for request in sorted(done, key=lambda r: r.time):
        if request.resource == "leases":
            leader = request.credential
        elif request.credential != leader:
            found.append(f"{request} by {request.credential}, while {leader} led")
    return found


def _created_twice(done: Sequence[Request]) -> Iterable[str]:
    created = Counter(
        (r.resource, r.name) for r in done if r.verb == "create" and r.resource != "leases"
    )
    return [f"{what} was created {n} times" for what, n in created.items() if n > 1]


def _judged_twice(done: Sequence[Request]) -> Iterable[str]:
    """A revision is written when it is made, and once more with its verdict.

    That each has one is told by the status; of a process that was killed in the middle of a request
    the API server may record a failure though the write took place.
    """
    judged = Counter(
        r.name for r in done if r.verb == "patch" and r.resource == "controllerrevisions"
    )
    return [f"revision {name} has {n} verdicts" for name, n in judged.items() if n > 1]

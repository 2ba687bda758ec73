"""What every row of the fault table goes through, and what must be seen on the way."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from operator_kit.api import Api
from operator_kit.space import View

from fault_kit.stage import Change, Stage, Stopwatch, bounded
from slipway_dev.testbed import Testbed
from slipway_operator.api.reasons import CLASS_OF, FailureClass, Reason

Json = dict[str, Any]
INTRINSIC_SECONDS = 10
# What a busy kubelet says of a Secret before it has looked; the Event then has these words.
_BUSY_KUBELET = "cache: timed out waiting for the condition"


@dataclass(frozen=True)
class Seen:
    """What is recorded of a row; see `fault_record`."""

    reason: str
    seen: str
    seconds: float
    sent: int
    failed: int
    healed: str


class Row(Protocol):
    """A row of the table, however it is played."""

    @property
    def group(self) -> str: ...

    @property
    def name(self) -> str: ...

    def play(self, stage: Stage) -> Seen: ...


@dataclass(frozen=True)
class Scene:
    """A row that is played in a way of its own."""

    group: str
    name: str
    play: Callable[[Stage], Seen]


@dataclass(frozen=True)
class Fault:
    """A row: a fault is brought in, told of, and given up or healed.

    Attributes:
        name: what goes wrong.
        brings_in: breaks what must be broken and returns the change of the spec.
        reason: the reason that the status gives.
        words: what its message says, among other things.
        mend: takes the cause away; without it the rollout is expected to fail.
        mended: what that was, in words.
        container, exit_code: of the recorded failure.
        within: seconds until the status names the fault.
    """

    group: str
    name: str
    brings_in: Callable[[Stage], Change]
    reason: Reason
    words: str
    mend: Callable[[Stage], object] | None = None
    mended: str = ""
    container: str | None = None
    exit_code: int | None = None
    within: float = 60

    @property
    def intrinsic(self) -> bool:
        """Whether the artifact itself is wrong."""
        return CLASS_OF[self.reason] is FailureClass.INTRINSIC

    def play(self, stage: Stage) -> Seen:
        """Go through all of it. Raises AssertionError for what is not as it should be."""
        with stage.starts:
            stage.apply(Change())
            stage.serves(stage.good)
        template = stage.deployment()["spec"]["template"]
        with stage.traffic() as traffic:
            stage.more_answers(traffic)
            with stage.starts:
                change = self.brings_in(stage)
                verdicts = stage.verdicts(self.reason)
                watch = Stopwatch()
                stage.apply(change)
                told = stage.until(f"names {self.reason}", self._named, self._patience)
                seconds = watch.seconds
            self._check_told(stage, told)
            if self.mend is None:
                self._fails(stage, change, template, verdicts)
                healed = "rolled back to the version before"
                stage.more_answers(traffic)
                assert set(traffic.tally.by_digest) == {stage.good.digest}
            else:
                assert told.row == ("Unknown", "True", "-", "True")
                assert told.serving == stage.good.digest
                assert "lastFailure" not in told.status, "nothing has failed yet"
                assert set(traffic.tally.by_digest) == {stage.good.digest}
                watch = Stopwatch()
                self.mend(stage)
                stage.serves(change.artifact or stage.good)
                healed = f"by itself, {watch.seconds:.0f} s after {self.mended}"
        tally = traffic.tally
        assert not tally.failures, str(tally)
        return Seen(self.reason, essence(stage, told), seconds, tally.sent, tally.failed, healed)

    @property
    def _patience(self) -> float:
        return INTRINSIC_SECONDS if self.intrinsic else self.within

    def _named(self, view: View) -> bool:
        return view.current and view.reason == self.reason and self.words in view.message

    def _check_told(self, stage: Stage, told: View) -> None:
        assert "Traceback" not in told.message

        def event() -> None:
            messages = [e["message"] for e in stage.events() if e["type"] == "Warning"]
            words = (self.words, _BUSY_KUBELET)
            assert any(word in message for message in messages for word in words), messages

        stage.eventually(event)

    def _fails(self, stage: Stage, change: Change, template: Json, verdicts: float) -> None:
        """The rollout is given up, recorded and counted, and nothing of it is tried again."""
        view = stage.until("is rolled back", lambda v: v.current and v.stalled == "RolledBack", 180)
        artifact = change.artifact or stage.good
        assert view.row == ("False", "-", "True", "True")
        failure = view.status["lastFailure"]
        assert failure["reason"] == self.reason
        assert self.words in failure["message"]
        assert failure.get("container") == self.container
        assert failure.get("exitCode") == self.exit_code
        assert view.serving == stage.good.digest
        assert view.status["target"]["digest"] == artifact.digest
        assert stage.deployment()["spec"]["template"] == template

        def counted() -> None:
            assert stage.verdicts(self.reason) > verdicts
            events = [e["message"] for e in stage.events() if e["reason"] == "RolledBack"]
            assert view.message in events

        stage.eventually(counted)
        if self.intrinsic:
            assert stage.pods_created(artifact.digest) == 1


def essence(stage: Stage, view: View) -> str:
    """The message without the revision at its beginning and without what was done about it."""
    message = re.sub(r"^revision \d+ \(\w+\) (is not ready|failed): ", "", view.message)
    message = re.sub(r"http://[\d.]+:\d+", "http://storage", message)
    message = message.replace(f"{stage.namespace}/", "").replace(stage.namespace, "ns")
    return message.partition(". rolled back to")[0]


class Campaign:
    """Plays rows side by side, each on a stage of its own, and hands out what was seen."""

    def __init__(self, testbed: Testbed, workers: int, starts: int) -> None:
        self._testbed = testbed
        self._api = Api.of_cluster(testbed.name)
        self._pool = ThreadPoolExecutor(workers)
        self._starts = bounded(starts)
        self._over = threading.Event()
        self._playing: dict[str, Future[Seen]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._pool.shutdown(cancel_futures=True)

    def begin(self, rows: Sequence[Row]) -> None:
        """Start them, those first that have to wait longest: all that is not settled at once."""

        def is_short(row: Row) -> bool:
            return isinstance(row, Fault) and row.intrinsic

        for row in sorted(rows, key=is_short):
            self._playing[row.name] = self._pool.submit(self._play, row)

    def seen(self, row: Row) -> Seen:
        """Wait for a row; raises what went wrong with it."""
        return self._playing[row.name].result()

    def alone(self, row: Row) -> Seen:
        """Play a row that the others would not stand, when they are done."""
        wait(self._playing.values())
        return self._play(row)

    def _play(self, row: Row) -> Seen:
        words = re.sub(r"[^a-z0-9]+", "-", row.name.lower()).strip("-")
        name = f"fault-{words}"[:50].strip("-")
        with Stage(self._testbed, self._api, name, self._starts, self._over) as stage:
            try:
                return row.play(stage)
            except BaseException as error:
                error.add_note(stage.show())
                raise

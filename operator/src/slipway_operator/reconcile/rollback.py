"""A rollback that a user asks for: a revision other than the spec's is served.

The request is the annotation ``slipway.dev/rollback-to``. It holds until it is removed or the spec
changes; an annotation that outlives a change of the spec has no effect. That a request is
in force, and that one is over, is recorded on the ControllerRevision of what the spec asks for.
"""

from dataclasses import dataclass, replace

from slipway_operator.api import names
from slipway_operator.api.model_deployment import ModelDeployment
from slipway_operator.api.status import Outcome
from slipway_operator.build.resolve import RejectedSpecError
from slipway_operator.build.revision import Revision
from slipway_operator.reconcile.plan import RevisionMark
from slipway_operator.reconcile.target import Target

_SHOWN = 64  # characters


@dataclass(frozen=True)
class Subject:
    """What is to be served.

    Attributes:
        revision: the revision to serve: the target's own, unless a user asks for another.
        target: what the spec asks for.
        marks: what to record first, in this order.
    """

    revision: Revision
    target: Target
    marks: tuple[RevisionMark, ...]

    @property
    def redirected(self) -> bool:
        """Whether a revision other than the spec's is served."""
        return self.revision.object_name != self.target.revision.object_name


def find_subject(
    model: ModelDeployment, target: Target, revisions: tuple[Revision, ...], now: str
) -> Subject:
    """Find out which revision is to be served.

    Raises:
        RejectedSpecError: the requested revision is one that cannot be served again.
    """
    asked = model.annotations.get(names.ANNOTATION_ROLLBACK_TO, "").strip() or None
    revision = target.revision
    noted: dict[str, str | None] = {}
    if _becomes_target(target):
        ended = asked if _is_over(asked, revision, revisions) else None
        if ended != revision.rollback_ended:
            noted[names.ANNOTATION_ROLLBACK_ENDED] = ended
        if revision.rollback_to is not None:
            noted[names.ANNOTATION_ROLLBACK_TO] = None
        revision = replace(revision, rollback_to=None, rollback_ended=ended)
    if asked is None or asked in (revision.rollback_ended, str(revision.number)):
        return _as_the_spec_asks(asked, revision, target, noted, now)
    wanted = _find(asked, revisions)
    marks: list[RevisionMark] = []
    if revision.rollback_to != asked:
        wanted, mark = _tried_again(wanted, now)
        marks.append(mark)
        noted[names.ANNOTATION_ROLLBACK_TO] = asked
        revision = replace(revision, rollback_to=asked)
    return _subject(wanted, revision, target, noted, marks)


def _becomes_target(target: Target) -> bool:
    return target.new is not None or (target.mark is not None and target.mark.number is not None)


def _is_over(asked: str | None, revision: Revision, revisions: tuple[Revision, ...]) -> bool:
    """Whether the request was made for an earlier spec."""
    others = [r for r in revisions if r.object_name != revision.object_name]
    before = max(others, key=lambda r: r.number, default=None)
    return (
        asked is not None
        and before is not None
        and before.spec_hash != revision.spec_hash
        and asked in (before.rollback_to, before.rollback_ended)
    )


def _find(asked: str, revisions: tuple[Revision, ...]) -> Revision:
    good = {str(r.number): r for r in revisions if r.good_as is not None}
    if asked in good:
        return good[asked]
    known = ", ".join(sorted(good, key=int)) or "none yet"
    shown = asked if len(asked) <= _SHOWN else f"{asked[:_SHOWN]}..."
    raise RejectedSpecError(
        "UnknownRevision",
        f"the annotation {names.ANNOTATION_ROLLBACK_TO} asks for revision '{shown}', which is not "
        f"one that was rolled out completely and is still kept ({known}): use one of these, or "
        "remove the annotation",
    )


def _tried_again(revision: Revision, now: str) -> tuple[Revision, RevisionMark]:
    """The revision is to be rolled out once more, and will be judged anew."""
    return (
        replace(revision, outcome=Outcome.PENDING, outcome_time=now, evidence=None),
        RevisionMark(
            revision.object_name,
            {
                names.ANNOTATION_OUTCOME: Outcome.PENDING,
                names.ANNOTATION_OUTCOME_TIME: now,
                names.ANNOTATION_EVIDENCE: None,
            },
        ),
    )


def _as_the_spec_asks(
    asked: str | None, revision: Revision, target: Target, noted: dict[str, str | None], now: str
) -> Subject:
    marks: list[RevisionMark] = []
    if asked is None and revision.rollback_ended is not None:
        noted[names.ANNOTATION_ROLLBACK_ENDED] = None
        revision = replace(revision, rollback_ended=None)
    if revision.rollback_to is not None:
        # The request is gone. A verdict against the revision stands, a good one is to be renewed.
        noted[names.ANNOTATION_ROLLBACK_TO] = None
        revision = replace(revision, rollback_to=None)
        if revision.outcome is Outcome.GOOD:
            revision, mark = _tried_again(revision, now)
            marks.append(mark)
    return _subject(revision, revision, target, noted, marks)


def _subject(
    served: Revision,
    asked_for: Revision,
    target: Target,
    noted: dict[str, str | None],
    marks: list[RevisionMark],
) -> Subject:
    new = target.new
    if new is not None and noted.get(names.ANNOTATION_ROLLBACK_ENDED):
        # In the object from its creation: an ended request must not take effect by accident.
        ended = noted.pop(names.ANNOTATION_ROLLBACK_ENDED)
        metadata = new["metadata"]
        annotations = {**metadata["annotations"], names.ANNOTATION_ROLLBACK_ENDED: ended}
        new = {**new, "metadata": {**metadata, "annotations": annotations}}
    if target.mark is not None:
        marks.append(target.mark)
    if noted:
        marks.append(RevisionMark(asked_for.object_name, noted))
    return Subject(
        served,
        replace(target, revision=asked_for, new=new),
        tuple(marks),
    )

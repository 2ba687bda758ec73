"""Finds the revision that the spec asks for, and the one to return to."""

from dataclasses import dataclass, replace

from slipway_operator.api import names
from slipway_operator.api.model_deployment import Json, ModelDeployment
from slipway_operator.api.settings import Pool
from slipway_operator.api.status import Outcome
from slipway_operator.build.revision import (
    ANNOTATION_SPEC_HASH,
    Rendered,
    Revision,
    controller_revision,
)
from slipway_operator.reconcile.plan import RevisionMark


@dataclass(frozen=True)
class Target:
    """The revision asked for, as it will be once the plan's records are written.

    Attributes:
        new: the ControllerRevision to create, when it is asked for the first time.
        mark: what to record about it first.
        retried: a user just asked for another attempt at this revision.
    """

    revision: Revision
    new: Json | None = None
    mark: RevisionMark | None = None
    retried: bool = False


def find_target(
    model: ModelDeployment,
    pool: Pool,
    rendered: Rendered,
    revisions: tuple[Revision, ...],
    now: str,
) -> Target:
    """The revision that the spec asks for: always the one with the highest number.

    A spec that was asked for before gets its old revision back under a new number, so its pods and
    its ReplicaSet are the same as then. A changed builder, image default or pool makes a new
    revision only for a new spec, unless the pool adopts changes.
    """
    newest = max((revision.number for revision in revisions), default=0)
    matching = [
        revision
        for revision in revisions
        if revision.hash == rendered.hash
        or (not pool.adopt_changes and revision.spec_hash == rendered.spec_hash)
    ]
    if not matching:
        created = controller_revision(model, rendered, newest + 1)
        return Target(Revision.parse(created), new=created)
    found = max(matching, key=lambda revision: revision.number)
    noted: dict[str, str | None] = {}
    if found.spec_hash != rendered.spec_hash:
        # Another spec with the same pods. Noted, so that a later builder, whose pods differ, still
        # knows the spec.
        noted[ANNOTATION_SPEC_HASH] = rendered.spec_hash
        found = replace(found, spec_hash=rendered.spec_hash)
    retry = model.annotations.get(names.ANNOTATION_RETRY)
    if found.number < newest:
        return _pending_again(found, newest + 1, retry, now, noted, retried=False)
    if found.outcome is not Outcome.GOOD and retry is not None and retry != found.retry_seen:
        return _pending_again(found, None, retry, now, noted, retried=True)
    return Target(found, mark=RevisionMark(found.object_name, noted) if noted else None)


def _pending_again(
    found: Revision,
    number: int | None,
    retry: str | None,
    now: str,
    noted: dict[str, str | None],
    *,
    retried: bool,
) -> Target:
    revision = replace(
        found,
        number=found.number if number is None else number,
        outcome=Outcome.PENDING,
        outcome_time=now,
        evidence=None,
        retry_seen=retry,
    )
    mark = RevisionMark(
        object_name=found.object_name,
        number=number,
        annotations={
            **noted,
            names.ANNOTATION_OUTCOME: Outcome.PENDING,
            names.ANNOTATION_OUTCOME_TIME: now,
            names.ANNOTATION_EVIDENCE: None,
            names.ANNOTATION_RETRY_SEEN: retry,
        },
    )
    return Target(revision, mark=mark, retried=retried)


def last_good(revisions: tuple[Revision, ...], target: Revision) -> Revision | None:
    """The revision other than the target whose rollout was completed last.

    One that a user asked to be replaced comes after all others.
    """
    good = [r for r in revisions if r.good_as is not None and r.object_name != target.object_name]
    return max(good, key=lambda r: (r.rollback_to is None, r.good_as or 0), default=None)


def surplus(revisions: tuple[Revision, ...], keep: set[str], limit: int) -> tuple[str, ...]:
    """Names of the oldest revisions beyond the limit; those in ``keep`` always stay."""
    spare = sorted(
        (r for r in revisions if r.object_name not in keep), key=lambda r: r.number, reverse=True
    )
    return tuple(r.object_name for r in spare[max(0, limit - len(keep)) :])

"""Renders the whole status: its only writer. Nothing is ever decided from what it wrote."""

from dataclasses import dataclass
from typing import Any

from slipway_operator.api.conditions import (
    AS_ASKED,
    READY,
    STALLED,
    Situation,
    Verdict,
    conditions,
    find,
)
from slipway_operator.api.model_deployment import Json
from slipway_operator.api.names import short_digest
from slipway_operator.api.status import (
    Condition,
    HistoryEntry,
    LastFailure,
    ModelDeploymentStatus,
    Outcome,
    Progress,
    RequestedRollback,
    Served,
    Target,
)
from slipway_operator.build.labels import selector_text
from slipway_operator.build.revision import Revision
from slipway_operator.build.route import external_url
from slipway_operator.build.service import url
from slipway_operator.reconcile.observation import Observation
from slipway_operator.reconcile.plan import Event
from slipway_operator.reconcile.progress import progress

_HISTORY_SHOWN = 10
_SUSPENDED = "spec.suspend is true: nothing is done until it is false"
_UNDER_WAY = ("Deploying", "RollingOut", "RolloutWithGap")
_AT_THE_TARGET = (Situation.COMPLETE, Situation.INCOMPLETE)


@dataclass(frozen=True)
class Report:
    """What there is to report.

    Attributes:
        target: the revision to serve; None when the spec cannot be used.
        revisions: all revisions as they are after the plan's records, newest first.
        outdated: whether a revision made now would differ from the spec's.
        asked_for: the spec's own revision; differs from the target when a user asks for another
            revision.
        routed: whether there is a way to the model from outside the cluster.
        encrypted: whether the pods that answer take requests over TLS alone.
    """

    verdict: Verdict
    target: Revision | None
    revisions: tuple[Revision, ...]
    outdated: bool
    asked_for: Revision | None = None
    routed: bool = False
    encrypted: bool = False


def report(obs: Observation, told: Report | None, now: str) -> Json:
    """The status to show; without a report, the counts are renewed and the rest is kept."""
    model = obs.model
    previous = model.status
    if told is None:
        kept = ModelDeploymentStatus.model_validate(previous)
        unchanged = [_suspended(c, model.generation) for c in kept.conditions]
        return kept.model_copy(
            update={
                **_counts(obs),
                "observed_generation": model.generation,
                "conditions": unchanged or _never_looked_at(model.generation, now),
            }
        ).dump()
    history = [
        HistoryEntry(revision=r.number, digest=r.digest, outcome=r.outcome, time=r.outcome_time)
        for r in told.revisions[:_HISTORY_SHOWN]
    ]
    status = ModelDeploymentStatus(
        observed_generation=model.generation,
        conditions=[
            Condition.model_validate(c)
            for c in conditions(
                told.verdict, model.generation, previous.get("conditions") or [], now
            )
        ],
        serving=_serving(obs, told, now),
        target=told.target
        and Target(digest=told.target.digest, uri=told.target.uri, revision=told.target.number),
        progress=_progress(obs, told),
        requested_rollback=_requested_rollback(told),
        last_failure=_last_failure(told.revisions),
        history=history or None,
        outdated=True if told.outdated else None,
        selector=selector_text(model.name),
        url=(external_url(model) if told.routed else None) or url(model, encrypted=told.encrypted),
    )
    return status.model_copy(update=_counts(obs)).dump()


def _suspended(last: Condition, generation: int) -> Condition:
    """Return a condition as it was last; Ready's message says that it is not renewed."""
    message = last.message
    if last.type == READY and not message.startswith(_SUSPENDED):
        message = f"{_SUSPENDED}; last: {message}"
    return last.model_copy(update={"observed_generation": generation, "message": message})


def _never_looked_at(generation: int, now: str) -> list[Condition]:
    return [
        Condition(
            type=READY,
            status="Unknown",
            reason="Suspended",
            message=_SUSPENDED,
            last_transition_time=now,
            observed_generation=generation,
        )
    ]


def _progress(obs: Observation, told: Report) -> Progress | None:
    if told.target is None or told.verdict.situation is not Situation.PROGRESSING:
        return None
    return progress(obs.pods_of(told.target.hash), obs.download)


def _requested_rollback(told: Report) -> RequestedRollback | None:
    target, asked_for = told.target, told.asked_for
    if target is None or asked_for is None or target.object_name == asked_for.object_name:
        return None
    return RequestedRollback(
        revision=target.number, instead_of=asked_for.number, digest=asked_for.digest
    )


def _counts(obs: Observation) -> dict[str, Any]:
    deployment = obs.children.get("Deployment") or {}
    status: Json = deployment.get("status", {})
    return {
        "replicas": status.get("replicas", 0),
        "ready_replicas": status.get("readyReplicas") or 0,
    }


def _serving(obs: Observation, told: Report, now: str) -> Served | None:
    """The revision that answers; while two do, the one that is being replaced.

    Once a rollout is complete it is the target alone, though the old ReplicaSet's count of ready
    pods may arrive only after the Deployment's.
    """
    target = told.target
    answering = [r for r in told.revisions if obs.ready_pods(r.hash) > 0]
    leaving = [r for r in answering if target is None or r.hash != target.hash]
    if target is not None and told.verdict.situation in _AT_THE_TARGET:
        serving = target if told.verdict.available else None
    else:
        serving = max(leaving or answering, key=lambda r: obs.ready_pods(r.hash), default=None)
    if serving is None:
        return None
    before: Json = obs.model.status.get("serving") or {}
    same = before.get("digest") == serving.digest
    return Served(
        digest=serving.digest,
        version=short_digest(serving.digest),
        uri=serving.uri,
        revision=serving.number,
        since=before["since"] if same else now,
    )


def _last_failure(revisions: tuple[Revision, ...]) -> LastFailure | None:
    for revision in revisions:
        evidence = revision.evidence
        if revision.outcome is Outcome.FAILED and evidence:
            return LastFailure(
                revision=revision.number,
                digest=revision.digest,
                reason=evidence["reason"],
                pod=evidence.get("pod"),
                message=evidence["message"],
                container=evidence.get("container"),
                exit_code=evidence.get("exitCode"),
                time=revision.outcome_time or "",
            )
    return None


def events_of(before: Json, after: Json) -> tuple[Event, ...]:
    """One Event when Ready changed its status or its reason.

    A model that serves with fewer pods than it should is Ready, and the Event is a Warning, unless
    the ones that are missing were just asked for.
    """
    old = find(before.get("conditions") or [], READY)
    new = find(after["conditions"], READY)
    if (old.get("status"), old.get("reason")) == (new["status"], new["reason"]):
        return ()
    stalled = find(after["conditions"], STALLED)
    normal = not stalled and (
        new["reason"] in (*AS_ASKED, *_UNDER_WAY) or _pods_are_coming(before, after, new)
    )
    return (
        Event(
            type="Normal" if normal else "Warning",
            reason=stalled.get("reason", new["reason"]) if stalled else new["reason"],
            message=new["message"],
        ),
    )


def _pods_are_coming(before: Json, after: Json, ready: Json) -> bool:
    """Whether more pods are wanted, nothing speaks against them, and none was lost."""
    return (
        ready["status"] == "True"
        and ready["reason"] == "PodsMissing"
        and after.get("readyReplicas", 0) >= before.get("readyReplicas", 0)
    )

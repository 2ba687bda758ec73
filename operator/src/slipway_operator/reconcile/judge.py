"""Judges the rollout of one revision: completed, failed, or still under way."""

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from slipway_operator.api import names
from slipway_operator.api.model_deployment import Json
from slipway_operator.api.reasons import CLASS_OF, FailureClass, Reason
from slipway_operator.api.spec import OnFailure
from slipway_operator.api.status import Outcome
from slipway_operator.build.revision import Revision
from slipway_operator.reconcile.contention import rivals
from slipway_operator.reconcile.evidence import (
    Evidence,
    collect,
    given_up_at,
    has_started,
    strongest,
)
from slipway_operator.reconcile.observation import Observation
from slipway_operator.reconcile.plan import RevisionMark
from slipway_operator.reconcile.progress import at_the_deadline

_COMPLETE = "NewReplicaSetAvailable"


class Action(StrEnum):
    """What a failed rollout led to; recorded with the verdict, so that it is decided once."""

    ROLLBACK = "Rollback"
    HOLD = "Hold"
    HOLD_ONCE_READY = "HoldOnceReady"
    """Held whatever the policy says: pods of it were ready, so going back may lose capacity."""


@dataclass(frozen=True)
class Judgement:
    """The revision as it will be once the mark is written, and what speaks against it now.

    Attributes:
        look_again: seconds until time alone may change the judgement.
    """

    revision: Revision
    mark: RevisionMark | None = None
    evidence: Evidence | None = None
    look_again: float | None = None


def live_hash(deployment: Json | None) -> str | None:
    """The hash of the revision whose template the live Deployment has."""
    if deployment is None:
        return None
    labels: dict[str, str] = deployment["spec"]["template"]["metadata"].get("labels", {})
    return labels.get(names.LABEL_REVISION)


def settled(deployment: Json, revision: Revision) -> bool:
    """Whether the Deployment controller has brought exactly this revision's pods, all available."""
    status: Json = deployment.get("status", {})
    wanted: int = deployment["spec"].get("replicas", 1)
    return (
        live_hash(deployment) == revision.hash
        and status.get("observedGeneration") == deployment["metadata"]["generation"]
        and all(
            status.get(count, 0) == wanted
            for count in ("replicas", "updatedReplicas", "availableReplicas")
        )
    )


def _changed_by_others(deployment: Json, revision: Revision) -> bool:
    """Whether the pods that run are not those of the revision, though they bear its label."""
    if revision.outcome is Outcome.GOOD:
        return False
    wanted: Json = {"spec": {"template": revision.template}}
    return any(manager for _, manager in rivals(wanted, deployment))


def _deadline_left(
    deployment: Json, revision: Revision, pods: list[Json], now: str
) -> float | None:
    """Seconds until this attempt's deadline; None while it does not run.

    The Deployment controller counts from the last progress of a pod and does not know about
    retries; and it leaves ProgressDeadlineExceeded in place until the next progress, also when the
    template goes back to that of an old ReplicaSet. So the condition only means that the controller
    will report nothing further, and the time of the present attempt is measured here.

    Nor does it count after a rollout that was complete with no pod at all, when pods are wanted
    later: then the deadline counts from the oldest pod that has not come up.
    """
    status: Json = deployment.get("status", {})
    if status.get("observedGeneration") != deployment["metadata"]["generation"]:
        return None
    for condition in status.get("conditions", ()):
        if (
            condition["type"] == "Progressing"
            and condition["status"] == "False"
            and condition.get("reason") == "ProgressDeadlineExceeded"
        ):
            since = revision.outcome_time or revision.created or now
        elif condition["type"] == "Progressing" and condition.get("reason") == _COMPLETE:
            waiting = [p["metadata"] for p in pods if not (has_started(p) or given_up_at(p))]
            born = [m["creationTimestamp"] for m in waiting if m.get("creationTimestamp")]
            if not born:
                return None
            since = max(min(born), revision.outcome_time or "")
        else:
            continue
        allowed = timedelta(seconds=deployment["spec"].get("progressDeadlineSeconds", 600))
        end = datetime.fromisoformat(since) + allowed
        return max(0.0, (end - datetime.fromisoformat(now)).total_seconds())
    return None


def _of_this_try(pods: list[Json], revision: Revision) -> list[Json]:
    """Leave out pods that were evicted, or given up by their node, before the present attempt.

    Kubernetes leaves them where they are.
    """
    since = revision.outcome_time if revision.outcome is Outcome.PENDING else None
    if since is None:
        return pods
    return [pod for pod in pods if (at := given_up_at(pod)) is None or at >= since]


def _fresh(evidence: list[Evidence], revision: Revision) -> list[Evidence]:
    """Leave out what happened before the revision's present attempt.

    Times have whole seconds. What happened in the same second as the attempt's start counts only
    for pods that are no older: for an older pod it will happen again, unless it was stale.
    """
    since = revision.outcome_time if revision.outcome is Outcome.PENDING else None
    if since is None:
        return evidence
    return [e for e in evidence if e.time is None or e.time > since or (e.born or "") >= since]


def judge(
    obs: Observation,
    revision: Revision,
    on_failure: OnFailure,
    good: Revision | None,
    restarts_allowed: int,
    now: str,
    complete_as: int,
) -> Judgement:
    """Judge a revision from the live Deployment and its own pods.

    ``complete_as`` is the number under which a completed rollout of it is recorded: that of what
    the spec asks for, also when a person wants another revision instead.

    A rollout that completes is good even after it was judged failed: a held one has recovered.
    """
    deployment = obs.children.get("Deployment")
    if deployment is None or live_hash(deployment) != revision.hash:
        return Judgement(revision)
    if (
        settled(deployment, revision)
        and deployment["spec"].get("replicas", 1) > 0
        and not _changed_by_others(deployment, revision)
    ):
        return _completed(revision, complete_as, now)
    pods = _of_this_try(obs.pods_of(revision.hash), revision)
    against = collect(pods, obs.replica_sets.get(revision.hash, ()), obs.mount_failures)
    worst = strongest(_fresh(against, revision))
    if revision.outcome is not Outcome.PENDING:
        return Judgement(revision, evidence=worst)
    left = _deadline_left(deployment, revision, pods, now)
    failure = _failure(worst, restarts_allowed)
    if failure is None and left == 0:
        failure = worst or _too_late(deployment, at_the_deadline(pods, obs.download, now))
    if failure is None:
        return Judgement(revision, evidence=worst, look_again=left)
    ever_ready = obs.ready_pods(revision.hash) > 0 or any(has_started(pod) for pod in pods)
    if on_failure is OnFailure.HOLD or good is None:
        action = Action.HOLD
    elif failure.failure_class is FailureClass.ENVIRONMENTAL and ever_ready:
        action = Action.HOLD_ONCE_READY
    else:
        action = Action.ROLLBACK
    return _failed(revision, failure, action, now)


def _failure(worst: Evidence | None, restarts_allowed: int) -> Evidence | None:
    """The evidence that makes this rollout a failed one before its deadline, if any does."""
    if worst is not None and (
        worst.failure_class is FailureClass.INTRINSIC
        or (worst.failure_class is FailureClass.AMBIGUOUS and worst.restarts >= restarts_allowed)
    ):
        return worst
    return None


def _too_late(deployment: Json, doing: str) -> Evidence:
    """The evidence when nothing but the time it took speaks against the revision."""
    deadline = deployment["spec"].get("progressDeadlineSeconds")
    more = f": {doing}; raise it if they need longer" if doing else ""
    return Evidence(
        Reason.PROGRESS_DEADLINE,
        CLASS_OF[Reason.PROGRESS_DEADLINE],
        f"no pod became available within spec.rollout.progressDeadlineSeconds ({deadline} s){more}",
    )


def _completed(revision: Revision, number: int, now: str) -> Judgement:
    if revision.outcome is Outcome.GOOD and revision.good_as == number:
        return Judgement(revision)
    return Judgement(
        replace(
            revision,
            outcome=Outcome.GOOD,
            outcome_time=now,
            good_as=number,
            evidence=None,
        ),
        RevisionMark(
            revision.object_name,
            {
                names.ANNOTATION_OUTCOME: Outcome.GOOD,
                names.ANNOTATION_OUTCOME_TIME: now,
                names.ANNOTATION_GOOD_AS: str(number),
                names.ANNOTATION_EVIDENCE: None,
            },
        ),
    )


def _failed(revision: Revision, failure: Evidence, action: Action, now: str) -> Judgement:
    record: dict[str, Any] = {
        "reason": failure.reason,
        "class": failure.failure_class,
        "message": failure.message,
        "pod": failure.pod,
        "container": failure.container,
        "exitCode": failure.exit_code,
        "action": action,
    }
    return Judgement(
        replace(revision, outcome=Outcome.FAILED, outcome_time=now, evidence=record),
        RevisionMark(
            revision.object_name,
            {
                names.ANNOTATION_OUTCOME: Outcome.FAILED,
                names.ANNOTATION_OUTCOME_TIME: now,
                names.ANNOTATION_EVIDENCE: json.dumps(record, sort_keys=True),
                names.ANNOTATION_RETRY_SEEN: revision.retry_seen,
            },
        ),
        failure,
    )


def roll_back_after_all(revision: Revision) -> Judgement:
    """A held revision whose owner changed the policy to Rollback: record that, then go back."""
    record = {**(revision.evidence or {}), "action": Action.ROLLBACK}
    return Judgement(
        replace(revision, evidence=record),
        RevisionMark(
            revision.object_name, {names.ANNOTATION_EVIDENCE: json.dumps(record, sort_keys=True)}
        ),
    )

"""``decide``: from what was observed to what is to be done. Pure; the clock is passed in."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from slipway_operator.api.conditions import STALLED, Situation, Verdict, find
from slipway_operator.api.model_deployment import Json
from slipway_operator.api.names import short_digest
from slipway_operator.api.settings import Settings
from slipway_operator.api.spec import OnFailure
from slipway_operator.api.status import Outcome
from slipway_operator.build.pod import encrypts
from slipway_operator.build.resolve import (
    RejectedSpecError,
    ResolvedRollout,
    resolve_pool,
    resolve_rollout,
)
from slipway_operator.build.revision import Rendered, Revision, render, revision_labels
from slipway_operator.reconcile.autoscaler import blind_autoscaler, until_blind
from slipway_operator.reconcile.children import unwanted_kinds, wanted_children
from slipway_operator.reconcile.evidence import damaged_cache, not_started_since
from slipway_operator.reconcile.explain import Explanation, ready_replicas
from slipway_operator.reconcile.judge import Action, Judgement, judge, roll_back_after_all
from slipway_operator.reconcile.observation import Impediment, Observation, Obstacle
from slipway_operator.reconcile.plan import Plan, RevisionMark
from slipway_operator.reconcile.progress import Phase, phase_of
from slipway_operator.reconcile.removal import until_stuck
from slipway_operator.reconcile.report import Report, events_of, report
from slipway_operator.reconcile.rollback import Subject, find_subject
from slipway_operator.reconcile.shortfall import routed, shortfall
from slipway_operator.reconcile.target import Target, find_target, last_good, surplus

_DAMAGED_CACHE_GRACE = timedelta(seconds=30)
LOOK_SECONDS = 10.0
"""What no watch event reports is read again after this time: see ``pod_events``, ``fetch_log``."""

_RETRY_OBSTACLE_SECONDS = {
    Impediment.NAME_CONFLICT: 10.0,
    Impediment.NAMESAKE_DELETING: 1.0,
    Impediment.REJECTED: 30.0,
    Impediment.FIELD_CONFLICT: 30.0,
    Impediment.FAILING: 5.0,
}
_LONGEST_OBSTACLE_SECONDS = 300.0


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with whole seconds, as Kubernetes writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def decide(obs: Observation, settings: Settings, clock: datetime) -> Plan:
    """Decide about one ModelDeployment.

    Args:
        obs: everything known about it.
        settings: the operator's configuration.
        clock: the present time.
    """
    model = obs.model
    now = timestamp(clock)
    if model.deleting:
        return Plan(outcome="deleting")
    if model.unreadable is not None:
        return _refused(obs, RejectedSpecError("UnreadableSpec", model.unreadable), now)
    if model.spec.suspend:
        return _suspended(obs, now)
    try:
        pool = resolve_pool(model.spec, settings)
        rollout = resolve_rollout(model.spec, pool)
        rendered = render(model, pool)
        target = find_target(model, pool, rendered, obs.revisions, now)
        subject = find_subject(model, target, obs.revisions, now)
    except RejectedSpecError as error:
        return _refused(obs, error, now)
    doomed = _pods_to_replace(obs, target, clock)
    staying = _without(obs, doomed)
    judged = _judged(staying, subject, rollout, settings, now)
    plan = _plan(staying, judged, rollout, settings, clock, outdated_by=rendered)
    return _deployment_first(replace(plan, delete_pods=doomed), staying)


@dataclass(frozen=True)
class _Judged:
    """What is to be served, and how it fares.

    Attributes:
        subject: the revision to serve, before it was judged.
        judgement: that revision as it is now.
        good: the last good revision beside it, if any.
        marks: what to record about revisions; later ones win.
    """

    subject: Subject
    judgement: Judgement
    good: Revision | None
    marks: tuple[RevisionMark, ...]

    @property
    def revision(self) -> Revision:
        """The revision to serve."""
        return self.judgement.revision

    @property
    def applied(self) -> Revision:
        """The revision whose pods are wanted: after a rollback the good one."""
        if self.good is not None and _rolled_back(self.revision):
            return self.good
        return self.revision

    @property
    def answering(self) -> Revision:
        """The revision that requests are routed to: while one is rolled out, the one before it."""
        if self.applied.outcome is Outcome.GOOD or self.good is None:
            return self.applied
        return self.good

    @property
    def asked_for(self) -> Revision:
        """The revision of the spec, which a requested rollback may not serve."""
        return self.subject.target.revision if self.subject.redirected else self.revision


def _judged(
    obs: Observation, subject: Subject, rollout: ResolvedRollout, settings: Settings, now: str
) -> _Judged:
    good = last_good(obs.revisions, subject.revision)
    judgement = judge(
        obs,
        subject.revision,
        rollout.on_failure,
        good,
        settings.ambiguous_restarts,
        now,
        complete_as=subject.target.revision.number,
    )
    marks = [*_relabelled(obs), *subject.marks, judgement.mark]
    if _should_roll_back_now(judgement.revision, rollout, good):
        changed = roll_back_after_all(judgement.revision)
        judgement = replace(judgement, revision=changed.revision)
        marks.append(changed.mark)
    recorded = tuple(mark for mark in marks if mark is not None)
    return _Judged(subject, judgement, good, recorded)


def _plan(
    obs: Observation,
    judged: _Judged,
    rollout: ResolvedRollout,
    settings: Settings,
    clock: datetime,
    *,
    outdated_by: Rendered,
) -> Plan:
    encrypted = encrypts(judged.answering.template)
    children = wanted_children(obs, judged.applied, rollout, settings, encrypted=encrypted)
    unwanted = unwanted_kinds(obs, children)
    if _rolled_back(judged.revision) and judged.good is None:
        # The revision to return to was deleted by hand: leave the pods that it left behind.
        children = tuple(child for child in children if child["kind"] != "Deployment")
    revisions = _with(_with(obs.revisions, judged.asked_for), judged.revision)
    verdict = Explanation(
        obs,
        rollout,
        judged.judgement,
        judged.applied,
        judged.asked_for,
        shortfall(obs, settings, clock),
        blind_autoscaler(obs, clock),
    ).verdict()
    told = Report(
        verdict,
        judged.revision,
        revisions,
        outdated=outdated_by.hash != judged.asked_for.hash,
        asked_for=judged.asked_for,
        routed=routed(obs, {child["kind"] for child in children}),
        encrypted=encrypted,
    )
    status = report(obs, told, timestamp(clock))
    needed = (judged.revision, judged.asked_for, judged.good)
    return Plan(
        # After an obstacle the status must be written: do not run into the same one again.
        new_revision=None if obs.obstacle else judged.subject.target.new,
        marks=() if obs.obstacle else _merged(judged.marks),
        children=() if obs.obstacle else children,
        delete_children=() if obs.obstacle else unwanted,
        delete_revisions=surplus(
            obs.revisions, _kept(obs, revisions, *needed), settings.revision_history_limit
        ),
        status=status,
        events=events_of(obs.model.status, status),
        requeue_after=_look_again(obs, judged.judgement.look_again, settings, clock),
        misses_revision=judged.good is None and _is_verdict_of_failure(judged.judgement),
        outcome=verdict.situation.value,
        labels={
            "revision": str(judged.revision.number),
            "digest": short_digest(judged.revision.digest),
        },
    )


def _deployment_first(plan: Plan, obs: Observation) -> Plan:
    """Where there is no Deployment yet, only it and the revision recorded before it.

    Its pods take longest, and of many models that are created at once none should wait for
    another's Service.
    """
    first = tuple(child for child in plan.children if child["kind"] == "Deployment")
    if not first or "Deployment" in obs.children:
        return plan
    return Plan(
        new_revision=plan.new_revision,
        marks=plan.marks,
        children=first,
        outcome=plan.outcome,
        misses_revision=plan.misses_revision,
        labels=plan.labels,
        unfinished=True,
    )


def _suspended(obs: Observation, now: str) -> Plan:
    """Report counts, and leave the conditions as they were last."""
    status = report(obs, None, now)
    return Plan(status=status, outcome="suspended", surely_absent=_surely_absent(obs))


def _refused(obs: Observation, error: RejectedSpecError, now: str) -> Plan:
    """A spec that cannot be built: say so, and leave what runs as it is."""
    deployment = obs.children.get("Deployment")
    verdict = Verdict(
        Situation.FAILED,
        error.reason,
        str(error),
        available=ready_replicas(deployment) > 0,
        verified=("Unknown", error.reason, "not looked at: the spec cannot be used"),
    )
    told_now = Report(
        verdict,
        None,
        obs.revisions,
        outdated=False,
        routed=routed(obs, obs.children.keys()),
        encrypted=deployment is not None and encrypts(deployment["spec"]["template"]),
    )
    status = report(obs, told_now, now)
    told = find(obs.model.status.get("conditions") or [], STALLED).get("reason")
    return Plan(
        status=status,
        events=events_of(obs.model.status, status),
        outcome="refused",
        misses_revision=error.reason == "UnknownRevision" != told,
        surely_absent=_surely_absent(obs),
    )


def _surely_absent(obs: Observation) -> tuple[str, ...]:
    """Without writing a child a hidden one is not discovered: its absence must be confirmed."""
    hidden = obs.revisions and "Deployment" not in obs.children
    return ("Deployment",) if hidden else ()


def _is_verdict_of_failure(judgement: Judgement) -> bool:
    return judgement.mark is not None and judgement.revision.outcome is Outcome.FAILED


def _relabelled(obs: Observation) -> list[RevisionMark]:
    """Give the labels back to revisions that were found without."""
    return [
        RevisionMark(r.object_name, {}, labels=revision_labels(obs.model.name, r.hash))
        for r in obs.revisions
        if not r.labelled
    ]


def _rolled_back(revision: Revision) -> bool:
    return (
        revision.outcome is Outcome.FAILED
        and (revision.evidence or {}).get("action") == Action.ROLLBACK
    )


def _should_roll_back_now(
    revision: Revision, rollout: ResolvedRollout, good: Revision | None
) -> bool:
    """A person changed onFailure from Hold to Rollback after the rollout had failed."""
    return (
        good is not None
        and revision.outcome is Outcome.FAILED
        and (revision.evidence or {}).get("action") == Action.HOLD
        and rollout.on_failure is OnFailure.ROLLBACK
    )


def _with(revisions: tuple[Revision, ...], changed: Revision) -> tuple[Revision, ...]:
    others = (r for r in revisions if r.object_name != changed.object_name)
    return tuple(sorted((changed, *others), key=lambda r: r.number, reverse=True))


def _merged(marks: Sequence[RevisionMark]) -> tuple[RevisionMark, ...]:
    """One mark per revision; later ones win."""
    merged: dict[str, RevisionMark] = {}
    for mark in marks:
        before = merged.get(mark.object_name)
        merged[mark.object_name] = (
            mark
            if before is None
            else RevisionMark(
                mark.object_name,
                {**before.annotations, **mark.annotations},
                before.number if mark.number is None else mark.number,
                mark.labels or before.labels,
            )
        )
    return tuple(merged.values())


def _kept(obs: Observation, revisions: tuple[Revision, ...], *needed: Revision | None) -> set[str]:
    """Revisions that are never pruned: those with pods, and those that are needed."""
    running = {r.object_name for r in revisions if obs.pod_count(r.hash) > 0}
    return running | {revision.object_name for revision in needed if revision is not None}


def _age(obj: Json, clock: datetime) -> timedelta:
    return clock - datetime.fromisoformat(obj["metadata"]["creationTimestamp"])


def _pods_to_replace(
    obs: Observation, target: Target, clock: datetime
) -> tuple[tuple[str, str], ...]:
    """Pods that cannot recover on their own.

    A damaged cache needs a new pod, at most one every 30 s for each; and a person who asks for a
    retry should not have to wait for the kubelet's back-off of up to five minutes.
    """
    damaged = [
        pod
        for pod in obs.pods
        if damaged_cache(pod) and not _is_ready(pod) and _age(pod, clock) >= _DAMAGED_CACHE_GRACE
    ]
    stuck = [
        pod
        for pod in (obs.pods_of(target.revision.hash) if target.retried else ())
        if not _is_ready(pod)
    ]
    return tuple((p["metadata"]["name"], p["metadata"]["uid"]) for p in (*damaged, *stuck))


def _without(obs: Observation, doomed: tuple[tuple[str, str], ...]) -> Observation:
    """What is judged: pods that are about to be deleted no longer count."""
    uids = {uid for _, uid in doomed}
    return replace(obs, pods=tuple(p for p in obs.pods if p["metadata"]["uid"] not in uids))


def _is_ready(pod: Json) -> bool:
    return any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for condition in pod.get("status", {}).get("conditions", ())
    )


def _look_again(
    obs: Observation, judgement: float | None, settings: Settings, clock: datetime
) -> float | None:
    due = [] if judgement is None else [judgement]
    if obs.obstacle is not None:
        due.append(_until_retry(obs.obstacle, obs.model.status, clock))
    if any(not_started_since(pod) is not None for pod in obs.pods):
        due.append(LOOK_SECONDS)
    if settings.fetch_progress and any(phase_of(pod) is Phase.FETCHING for pod in obs.pods):
        due.append(LOOK_SECONDS)
    if any(damaged_cache(pod) and not _is_ready(pod) for pod in obs.pods):
        due.append(_DAMAGED_CACHE_GRACE.total_seconds())
    due += [time for time in (until_stuck(obs, clock), until_blind(obs, clock)) if time is not None]
    return min(due, default=None)


def _until_retry(obstacle: Obstacle, status: Json, clock: datetime) -> float:
    """Seconds until it is worth trying again.

    Each retry of a refused object is a write, so the pause grows with the time the refusal has
    lasted, up to five minutes.
    """
    if obstacle.retry_after is not None:
        return obstacle.retry_after
    usual = _RETRY_OBSTACLE_SECONDS[obstacle.impediment]
    if obstacle.impediment is not Impediment.REJECTED:
        return usual
    stalled = find(status.get("conditions") or [], STALLED)
    if stalled.get("reason") != obstacle.impediment.value:
        return usual
    lasted = clock - datetime.fromisoformat(stalled["lastTransitionTime"])
    return min(max(usual, lasted.total_seconds()), _LONGEST_OBSTACLE_SECONDS)

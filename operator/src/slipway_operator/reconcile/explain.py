"""Explains a decision: the one place where the status gets its reasons and sentences."""

from dataclasses import dataclass, replace

from slipway_operator.api import names
from slipway_operator.api.conditions import Situation, Status, Verdict
from slipway_operator.api.model_deployment import Json
from slipway_operator.api.names import short_digest
from slipway_operator.api.reasons import Reason
from slipway_operator.api.spec import OnFailure, is_zero
from slipway_operator.api.status import Outcome
from slipway_operator.build.resolve import ResolvedRollout
from slipway_operator.build.revision import Revision
from slipway_operator.reconcile.evidence import Evidence, fetched
from slipway_operator.reconcile.judge import Action, Judgement, live_hash, settled
from slipway_operator.reconcile.observation import Impediment, Observation, Obstacle
from slipway_operator.reconcile.progress import not_ready_yet
from slipway_operator.reconcile.shortfall import Shortfall

_ABOUT_THE_ARTIFACT = {
    Reason.DIGEST_MISMATCH,
    Reason.ARTIFACT_NOT_FOUND,
    Reason.ACCESS_DENIED,
    Reason.SOURCE_UNAVAILABLE,
    Reason.TOO_LARGE,
}

_IN_THE_BYTES = {
    Reason.INVALID_MODEL,
    Reason.UNSUPPORTED_OPSET,
    Reason.GOLDEN_MISMATCH,
    Reason.WARMUP_FAILED,
}


def ready_replicas(deployment: Json | None) -> int:
    """Pods of all revisions that answer requests."""
    return (deployment or {}).get("status", {}).get("readyReplicas") or 0


def _verified(obs: Observation, judgement: Judgement) -> tuple[Status, str, str]:
    """ArtifactVerified, about the target's artifact."""
    revision, recorded = judgement.revision, judgement.revision.evidence or {}
    digest = short_digest(revision.digest)
    if revision.outcome is Outcome.GOOD or any(fetched(p) for p in obs.pods_of(revision.hash)):
        return ("True", "Verified", f"the bytes of {digest} match their digest")
    if recorded.get("reason") in _ABOUT_THE_ARTIFACT:
        return ("False", str(recorded["reason"]), str(recorded.get("message", "")))
    now = judgement.evidence
    if now is not None and now.reason in _ABOUT_THE_ARTIFACT:
        return ("False", now.reason, now.message)
    return ("Unknown", "NotFetched", f"no pod has fetched {digest} yet")


def _log_of(namespace: str, pod: str, container: str) -> str:
    return f"; its log: kubectl logs -n {namespace} {pod} -c {container} --previous"


@dataclass(frozen=True)
class Explanation:
    """Puts what was decided into words: the content of the conditions.

    Attributes:
        judgement: the target revision after judging, and what speaks against it now.
        applied: the revision whose template is applied; another one after a rollback.
        asked_for: the spec's own revision; differs from the judged one when a user asks for another
            revision.
        shortfall: what the spec asks for besides and cannot get.
        remark: what a person should know of a model that is served.
    """

    obs: Observation
    rollout: ResolvedRollout
    judgement: Judgement
    applied: Revision
    asked_for: Revision
    shortfall: Shortfall | None = None
    remark: str | None = None

    def verdict(self) -> Verdict:
        """The conditions' content. A shortfall is reported only when there is nothing worse."""
        verdict, lack = self._of_the_rollout(), self.shortfall
        served = verdict.situation is Situation.COMPLETE and verdict.available
        if lack is None or not (served or verdict.situation is Situation.SCALED_TO_ZERO):
            return verdict
        return replace(
            verdict,
            situation=Situation.INCOMPLETE,
            reason=lack.reason,
            message=f"{verdict.message}; but {lack.message}",
        )

    def _of_the_rollout(self) -> Verdict:
        revision = self.judgement.revision
        if self.obs.obstacle is not None:
            return self._obstructed(self.obs.obstacle)
        if revision.outcome is Outcome.FAILED:
            return self._failed(revision)
        deployment = self.obs.children.get("Deployment")
        if deployment is not None and live_hash(deployment) == revision.hash:
            if deployment["spec"].get("replicas", 1) == 0 and settled(deployment, revision):
                by_hand = self.obs.model.spec.replicas == 0
                why = "as spec.replicas asks" if by_hand else "until a trigger of KEDA asks for one"
                return self._say(Situation.SCALED_TO_ZERO, "ScaledToZero", f"no pod, {why}")
            if revision.outcome is Outcome.GOOD and revision.good_as == self.asked_for.number:
                return self._complete(deployment)
        return self._progressing(revision, deployment)

    @property
    def _available(self) -> bool:
        return ready_replicas(self.obs.children.get("Deployment")) > 0

    @property
    def _redirected(self) -> bool:
        return self.asked_for.object_name != self.judgement.revision.object_name

    @property
    def _instead(self) -> str:
        if not self._redirected:
            return ""
        return (
            f"; revision {self.judgement.revision.number} instead of {self.asked_for.number} "
            f"({short_digest(self.asked_for.digest)}), as the annotation "
            f"{names.ANNOTATION_ROLLBACK_TO} asks until it is removed or the spec changes"
        )

    def _say(
        self, situation: Situation, reason: str, message: str, stalled_reason: str | None = None
    ) -> Verdict:
        return Verdict(
            situation,
            reason,
            message + self._instead,
            self._available,
            _verified(self.obs, self.judgement),
            stalled_reason,
        )

    def _obstructed(self, obstacle: Obstacle) -> Verdict:
        waiting = obstacle.impediment in (Impediment.NAMESAKE_DELETING, Impediment.FAILING)
        return self._say(
            Situation.PROGRESSING if waiting else Situation.FAILED,
            obstacle.impediment.value,
            obstacle.message,
        )

    def _failed(self, revision: Revision) -> Verdict:
        evidence = revision.evidence or {}
        reason = evidence.get("reason", "Failed")
        what = f"revision {revision.number} ({short_digest(revision.digest)}) failed: "
        told = str(evidence.get("message", "")).rstrip(". ")
        crashed = reason == Reason.CRASH and evidence.get("pod") and evidence.get("container")
        if self.applied.object_name != revision.object_name:
            then = (
                f"rolled back to revision {self.applied.number} "
                f"({short_digest(self.applied.digest)}); change spec.model, or set the annotation "
                f"{names.ANNOTATION_RETRY} to a new value to try this revision again"
            )
            told += f" (pod {evidence['pod']}, which is gone)" if crashed else ""
            return self._say(Situation.FAILED, reason, f"{what}{told}. {then}", "RolledBack")
        why = {
            Action.HOLD_ONCE_READY: "pods of it were ready",
            Action.ROLLBACK: "the revision to return to is gone",
        }.get(
            evidence.get("action", ""),
            "spec.rollout.onFailure is Hold"
            if self.rollout.on_failure is OnFailure.HOLD
            else "there is no earlier revision to return to",
        )
        end = (
            "the digest pins what is wrong, so only another spec.model can help"
            if reason in _IN_THE_BYTES
            else "it goes on by itself once the cause is gone"
        )
        if crashed:
            told += _log_of(self.obs.model.namespace, evidence["pod"], evidence["container"])
        then = f"held, since {why}; {end}"
        return self._say(Situation.FAILED, reason, f"{what}{told}. {then}", "RolloutHeld")

    def _complete(self, deployment: Json) -> Verdict:
        ready, wanted = ready_replicas(deployment), deployment["spec"].get("replicas", 1)
        digest = short_digest(self.judgement.revision.digest)
        if ready >= wanted:
            reason = "RollbackRequested" if self._redirected else "Serving"
            pods = "1 ready pod" if ready == 1 else f"{ready} ready pods"
            remark = f"; {self.remark}" if self.remark else ""
            return self._say(Situation.COMPLETE, reason, f"serving {digest} with {pods}{remark}")
        evidence = self.judgement.evidence
        reason = evidence.reason if evidence else "PodsMissing"
        lead = f"serving {digest} with {ready} of {wanted} pods"
        told = f": {evidence.message}{self._where_to_look(evidence)}" if evidence else ""
        return self._say(Situation.COMPLETE, reason, f"{lead}{told}")

    def _where_to_look(self, evidence: Evidence) -> str:
        """Where to read more about a container that left no termination message."""
        if evidence.reason is not Reason.CRASH or not evidence.pod or not evidence.container:
            return ""
        return _log_of(self.obs.model.namespace, evidence.pod, evidence.container)

    def _progressing(self, revision: Revision, deployment: Json | None) -> Verdict:
        digest = short_digest(revision.digest)
        evidence: Evidence | None = self.judgement.evidence
        if evidence is not None:
            return self._say(
                Situation.PROGRESSING,
                evidence.reason,
                f"revision {revision.number} ({digest}) is not ready: {evidence.message}"
                f"{self._where_to_look(evidence)}",
            )
        rest = not_ready_yet(self.obs.pods_of(revision.hash), self.obs.download)
        rest = f"; {rest}" if rest else ""
        if self._has_gap(revision, deployment):
            return self._say(
                Situation.PROGRESSING,
                "RolloutWithGap",
                f"replacing the only pod with one of {digest}; nothing answers until it is ready, "
                "since the pool allows no surge: use two replicas, or set spec.rollout.maxSurge"
                f"{rest}",
            )
        if not self._available:
            return self._say(
                Situation.PROGRESSING,
                "Deploying",
                f"waiting for the first ready pod of {digest}{rest}",
            )
        status: Json = (deployment or {}).get("status", {})
        wanted = (deployment or {}).get("spec", {}).get("replicas", 1)
        if self._is_first(revision):
            available = status.get("availableReplicas") or 0
            return self._say(
                Situation.PROGRESSING,
                "Deploying",
                f"{available} of {wanted} pods of {digest} available{rest}",
            )
        updated = status.get("updatedReplicas") or 0
        progress = updated if live_hash(deployment) == revision.hash else 0
        return self._say(
            Situation.PROGRESSING,
            "RollingOut",
            f"rolling out {digest}: {progress} of {wanted} pods replaced{rest}",
        )

    def _has_gap(self, revision: Revision, deployment: Json | None) -> bool:
        """Whether the only pod must go before the one that replaces it can come."""
        return (
            is_zero(self.rollout.max_surge)
            and deployment is not None
            and deployment["spec"].get("replicas", 1) == 1
            and not self._is_first(revision)
        )

    def _is_first(self, revision: Revision) -> bool:
        """Whether there never was another revision that this one could replace."""
        return not any(
            other.good_as is not None or self.obs.pod_count(other.hash)
            for other in self.obs.revisions
            if other.hash != revision.hash
        )

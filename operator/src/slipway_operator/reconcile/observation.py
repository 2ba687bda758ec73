"""The input of one decision: plain data, gathered beforehand, with no way to fetch more."""

from dataclasses import dataclass, field
from enum import Enum

from slipway_operator.api.model_deployment import Json, ModelDeployment
from slipway_operator.build.revision import Revision
from slipway_operator.reconcile.progress import Fetched


class Impediment(Enum):
    """Why a child could not be written."""

    NAME_CONFLICT = "NameConflict"
    """A foreign object bears the child's name; it is never written."""

    NAMESAKE_DELETING = "WaitingForDeletion"
    """A child of a deleted ModelDeployment of the same name is still being removed."""

    FIELD_CONFLICT = "FieldConflict"
    """Somebody else keeps changing a field of a child back; the child is left alone for a while."""

    FAILING = "ApplyFailed"
    """The API server fails on the object, as when an admission webhook cannot be reached."""

    REJECTED = "ApplyRejected"
    """The API server refuses the object: invalid, forbidden, or denied at admission."""


@dataclass(frozen=True)
class Obstacle:
    """A child that could not be written, with a sentence for the status.

    Attributes:
        retry_after: seconds until it is worth trying again; None for the impediment's usual time.
    """

    impediment: Impediment
    message: str
    retry_after: float | None = None


@dataclass(frozen=True)
class Observation:
    """One ModelDeployment and everything it owns, as last seen.

    Attributes:
        children: live objects by kind, each controlled by this ModelDeployment.
        replica_sets: the Deployment's, by the value of their revision label. There are several of
            one revision when somebody else changed the template, as `kubectl rollout restart`.
        pods: all pods of those ReplicaSets that are not being deleted.
        mount_failures: why a volume of a pod cannot be mounted, by the pod's uid.
        download: how far the pod that fetches longest has come, where that is known.
        served: names of the optional kinds that can be used now.
        obstacle: what stood in the way when the plan was last carried out.
    """

    model: ModelDeployment
    children: dict[str, Json] = field(default_factory=dict[str, Json])
    revisions: tuple[Revision, ...] = ()
    replica_sets: dict[str, tuple[Json, ...]] = field(default_factory=dict[str, tuple[Json, ...]])
    pods: tuple[Json, ...] = ()
    mount_failures: dict[str, str] = field(default_factory=dict[str, str])
    download: Fetched | None = None
    served: frozenset[str] = frozenset()
    obstacle: Obstacle | None = None

    def pods_of(self, revision_hash: str) -> list[Json]:
        """The pods of one revision."""
        owners = {owner["metadata"]["uid"] for owner in self.replica_sets.get(revision_hash, ())}
        return [
            pod
            for pod in self.pods
            if any(ref["uid"] in owners for ref in pod["metadata"].get("ownerReferences", ()))
        ]

    def pod_count(self, revision_hash: str) -> int:
        """How many pods one revision has."""
        return self._count(revision_hash, "replicas")

    def ready_pods(self, revision_hash: str) -> int:
        """How many pods of one revision answer requests."""
        return self._count(revision_hash, "readyReplicas")

    def _count(self, revision_hash: str, field_name: str) -> int:
        owners = self.replica_sets.get(revision_hash, ())
        return sum(owner.get("status", {}).get(field_name) or 0 for owner in owners)

"""The ModelDeployment's status: a report. The operator never decides from it."""

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from slipway_operator.api.schema import Schema


class Condition(Schema):
    """A Kubernetes condition, as metav1.Condition."""

    type: str = Field(description="CamelCase name of the condition.", max_length=316)
    status: Literal["True", "False", "Unknown"] = Field(description="True, False or Unknown.")
    reason: str = Field(description="CamelCase word that a program can act on.", max_length=1024)
    message: str = Field(description="What a person should know.", max_length=32768)
    last_transition_time: str = Field(
        description="When status last changed.", json_schema_extra={"format": "date-time"}
    )
    observed_generation: int = Field(ge=0, description="metadata.generation this is about.")


class Served(Schema):
    """The artifact that answers requests now."""

    digest: str = Field(description="SHA-256 of the artifact.")
    version: str = Field(
        description="First 12 hex digits of the digest: the model version in every answer."
    )
    uri: str = Field(description="Where it came from.")
    revision: int = Field(description="Revision that serves it.")
    since: str = Field(description="When it was first seen serving.")


class Target(Schema):
    """The artifact that was asked for."""

    digest: str = Field(description="SHA-256 of the artifact.")
    uri: str = Field(description="Where it comes from.")
    revision: int = Field(description="Revision that is to serve it.")


class RequestedRollback(Schema):
    """A person asked for another revision than the spec's."""

    revision: int = Field(description="Revision that is served.")
    instead_of: int = Field(description="Revision of the spec.")
    digest: str = Field(description="Artifact of the spec.")


class LastFailure(Schema):
    """Why the last failed rollout failed."""

    revision: int = Field(description="Revision that failed.")
    digest: str = Field(description="Its artifact.")
    reason: str = Field(description="CamelCase word that a program can act on.")
    message: str = Field(description="What was wrong, where, and how to fix it.")
    pod: str | None = Field(default=None, description="Pod that reported it; it may be gone.")
    container: str | None = Field(default=None, description="Container that reported it.")
    exit_code: int | None = Field(default=None, description="Its exit code.")
    time: str = Field(description="When the operator gave its verdict.")


class Progress(Schema):
    """Where the pods of the target stand while it is rolled out."""

    pending: int = Field(ge=0, description="Wait for a node, for volumes or for the image.")
    fetching: int = Field(ge=0, description="Download and verify the artifact.")
    loading: int = Field(ge=0, description="Load the model and run it once.")
    ready: int = Field(ge=0, description="Answer requests.")
    failing: int = Field(ge=0, description="Something speaks against them: see the conditions.")
    fetched_bytes: int | None = Field(
        default=None,
        description="Bytes that the pod which fetches longest has. Only where the operator is "
        "configured to read it.",
        json_schema_extra={"format": "int64"},
    )
    total_bytes: int | None = Field(
        default=None, description="Size of the artifact.", json_schema_extra={"format": "int64"}
    )


class Outcome(StrEnum):
    """How a revision's rollout ended."""

    PENDING = "Pending"
    GOOD = "Good"
    FAILED = "Failed"


class HistoryEntry(Schema):
    """One revision."""

    revision: int = Field(description="Number of the revision.")
    digest: str = Field(description="Its artifact.")
    outcome: Outcome = Field(description="Pending, Good or Failed.")
    time: str | None = Field(default=None, description="When that became known.")


class ModelDeploymentStatus(Schema):
    """What is served, what was asked for, and why they differ."""

    observed_generation: int | None = Field(
        default=None, description="metadata.generation that this status is about."
    )
    conditions: list[Condition] = Field(
        default_factory=list[Condition],
        max_length=16,
        description="Ready, Reconciling, Stalled, Available, ArtifactVerified.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    )
    serving: Served | None = Field(default=None, description="What answers requests now.")
    target: Target | None = Field(default=None, description="What was asked for.")
    progress: Progress | None = Field(
        default=None, description="Present while the target is rolled out."
    )
    requested_rollback: RequestedRollback | None = Field(
        default=None,
        description="Present while the annotation slipway.dev/rollback-to is in force; target is "
        "then what it asks for.",
    )
    last_failure: LastFailure | None = Field(
        default=None, description="Why the last failed rollout failed."
    )
    history: list[HistoryEntry] | None = Field(
        default=None, max_length=32, description="Revisions kept, newest first."
    )
    outdated: bool | None = Field(
        default=None,
        description="True when a new revision would differ: the operator, its images or the pool "
        "changed since this one was made.",
    )
    replicas: int | None = Field(default=None, description="Pods that exist.")
    ready_replicas: int | None = Field(default=None, description="Pods that are ready.")
    selector: str | None = Field(default=None, description="Label selector of the pods.")
    url: str | None = Field(
        default=None, description="Where the model answers: by its route, else in the cluster."
    )

    def dump(self) -> dict[str, Any]:
        """As Kubernetes wants it: camelCase, absent fields left out."""
        return self.model_dump(by_alias=True, exclude_none=True, mode="json")

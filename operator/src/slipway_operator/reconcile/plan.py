"""What one decision asks for: data for the executor."""

from dataclasses import dataclass, field

from slipway_operator.api.model_deployment import Json


@dataclass(frozen=True)
class RevisionMark:
    """A change of what is known about a revision; durable before anything acts on it.

    Attributes:
        object_name: the ControllerRevision.
        number: its new number, or None to leave it.
        annotations: annotations to set; None removes one.
        labels: labels to set.
    """

    object_name: str
    annotations: dict[str, str | None]
    number: int | None = None
    labels: dict[str, str] | None = None


@dataclass(frozen=True)
class Event:
    """An Event about the ModelDeployment."""

    type: str
    reason: str
    message: str


@dataclass(frozen=True)
class Plan:
    """What to do about one ModelDeployment.

    Attributes:
        new_revision: a ControllerRevision to create.
        marks: verdicts to record on existing revisions, before the children change.
        children: the wanted state of every child, in the order of writing.
        delete_children: kinds of children that are no longer wanted.
        delete_pods: names of pods to replace, and the uid each must still have.
        delete_revisions: names of ControllerRevisions beyond the history limit.
        status: the whole status to report, or None to leave it.
        events: what to tell.
        requeue_after: seconds until another reconcile is due without any event.
        outcome: one word for the metrics.
        unfinished: this is only what is most urgent; the key is queued again for the rest, behind
            others.
        misses_revision: the plan would differ if another revision were known: worth a search for
            revisions that lost their labels.
        surely_absent: kinds of children that are not known and must not be reported as absent
        before a live read confirms it: removing our labels hides a child from us.
    """

    new_revision: Json | None = None
    marks: tuple[RevisionMark, ...] = ()
    children: tuple[Json, ...] = ()
    delete_children: tuple[str, ...] = ()
    delete_pods: tuple[tuple[str, str], ...] = ()
    delete_revisions: tuple[str, ...] = ()
    status: Json | None = None
    events: tuple[Event, ...] = ()
    requeue_after: float | None = None
    outcome: str = "unchanged"
    unfinished: bool = False
    misses_revision: bool = False
    surely_absent: tuple[str, ...] = ()
    # Kept out of equality: tells the executor and the logs which revision this was about.
    labels: dict[str, str] = field(default_factory=dict[str, str], compare=False)

    @property
    def changes_the_cluster(self) -> bool:
        """Whether anything but children, status and Events is to be written."""
        return bool(
            self.new_revision
            or self.marks
            or self.delete_children
            or self.delete_pods
            or self.delete_revisions
        )

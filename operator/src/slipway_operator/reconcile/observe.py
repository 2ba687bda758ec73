"""Gathers one Observation from the store: only what this ModelDeployment itself controls."""

from slipway_operator.api.model_deployment import Json, ModelDeployment
from slipway_operator.api.names import LABEL_REVISION
from slipway_operator.build.revision import Revision
from slipway_operator.reconcile import kinds
from slipway_operator.reconcile.observation import Observation, Obstacle
from slipway_operator.reconcile.store import Key, Store


def controlled_by(obj: Json, uid: str) -> bool:
    """Whether the object's controller has this uid."""
    return any(
        reference.get("controller") and reference["uid"] == uid
        for reference in obj["metadata"].get("ownerReferences") or ()
    )


def observe(store: Store, key: Key, obstacle: Obstacle | None = None) -> Observation | None:
    """Everything known about one ModelDeployment, or None when it does not exist."""
    obj = store.model(key)
    if obj is None:
        return None
    model = ModelDeployment.parse(obj)
    children: dict[str, Json] = {}
    for kind in kinds.CHILDREN:
        child = store.get(key, kind).get(model.name)
        if child is not None and controlled_by(child, model.uid):
            children[kind.name] = child
    revisions = [
        Revision.parse(revision)
        for revision in store.get(key, kinds.CONTROLLER_REVISION).values()
        if controlled_by(revision, model.uid)
    ]
    replica_sets: dict[str, tuple[Json, ...]] = {}
    deployment = children.get(kinds.DEPLOYMENT.name)
    if deployment is not None:
        uid = deployment["metadata"]["uid"]
        for replica_set in store.get(key, kinds.REPLICA_SET).values():
            if controlled_by(replica_set, uid):
                labels: dict[str, str] = replica_set["metadata"].get("labels") or {}
                label = labels.get(LABEL_REVISION, "")
                replica_sets[label] = (*replica_sets.get(label, ()), replica_set)
    owners = {owner["metadata"]["uid"] for several in replica_sets.values() for owner in several}
    pods = tuple(
        pod
        for pod in store.get(key, kinds.POD).values()
        if "deletionTimestamp" not in pod["metadata"]
        and any(controlled_by(pod, owner) for owner in owners)
    )
    return Observation(
        model=model,
        children=children,
        revisions=tuple(sorted(revisions, key=lambda r: r.number, reverse=True)),
        replica_sets=replica_sets,
        pods=pods,
        obstacle=obstacle,
    )

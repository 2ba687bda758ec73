"""Judges the cluster against what users asked for, from its objects alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from operator_kit.api import Api
from operator_kit.space import Space, View

from soak_kit.asked import Asked, Expectation

Json = dict[str, Any]

_OWNED = (
    "deployments",
    "replicasets",
    "pods",
    "services",
    "controllerrevisions",
    "networkpolicies",
    "poddisruptionbudgets",
)
_DIGEST = "slipway.dev/digest"
_MODEL = "slipway.dev/model"
HAND = "EDITED_BY_HAND"
"""The mark that edits by hand leave: a variable, a label key or a port name."""


@dataclass(frozen=True)
class World:
    """All objects of a namespace at about one moment."""

    models: Mapping[str, Json]
    owned: Mapping[str, Mapping[str, list[Json]]]
    """By resource, then by the model that owns it, or that the label names."""

    @classmethod
    def of(cls, api: Api, namespace: str) -> World:
        """List everything."""
        owned: dict[str, dict[str, list[Json]]] = {}
        for resource in _OWNED:
            by_model: dict[str, list[Json]] = defaultdict(list)
            for obj in api.list(resource, namespace):
                if (name := _model_of(obj)) is not None:
                    by_model[name].append(obj)
            owned[resource] = by_model
        models = {m["metadata"]["name"]: m for m in api.list("modeldeployments", namespace)}
        return cls(models, owned)

    def child(self, resource: str, name: str) -> Json | None:
        """The child that bears the model's name."""
        found = self.owned[resource].get(name, [])
        return next((obj for obj in found if obj["metadata"]["name"] == name), None)

    def pods(self, name: str) -> list[Json]:
        """Pods that are not on their way out."""
        found = self.owned["pods"].get(name, [])
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def complaints(world: World, space: Space, population: Mapping[str, Asked]) -> list[str]:
    """Everything that is not as it must be; empty when all is well."""
    found: list[str] = []
    for name, asked in population.items():
        model = world.models.get(name)
        if model is None:
            found.append(f"{name}: is gone")
            continue
        said = f"{name} ({asked.expectation().name}, {asked.version})"
        found += [f"{said}: {what}" for what in _of_model(world, space, asked, View(model))]
    found += [f"{name}: is still there" for name in world.models.keys() - population.keys()]
    for resource, by_model in world.owned.items():
        for name in by_model.keys() - population.keys():
            found.append(f"{name}: was deleted and has {resource}")
    return found


def _of_model(world: World, space: Space, asked: Asked, view: View) -> Iterator[str]:
    yield from _truth(world, asked, view)
    expectation = asked.expectation()
    if expectation is not Expectation.SUSPENDED:
        yield from _children(world, asked, view)
    if expectation is Expectation.SERVED:
        yield from _served(world, space, asked, view, asked.version)
        if view.condition("Ready").get("status") != "True":
            yield f"Ready is {view.condition('Ready')}"
        if view.condition("Stalled") or view.condition("Reconciling"):
            yield f"still {view.row}"
    elif expectation is Expectation.REFUSED:
        if asked.replicas and view.condition("Ready").get("status") == "True":
            yield "is called Ready, and its artifact cannot be loaded"
        if (fallback := asked.fallback()) is not None and asked.replicas:
            yield from _served(world, space, asked, view, fallback)
            if view.stalled not in ("RolledBack", "RolloutHeld"):
                yield f"Stalled is {view.condition('Stalled')}"
    elif expectation is Expectation.FAILING and asked.replicas:
        if view.condition("Ready").get("status") != "False":
            yield f"Ready is {view.condition('Ready')}, and no pod of it can be"
        if _template_digest(world, asked.name) != space.digest(asked.version):
            yield "a version that was good went away when it broke"


def _model_of(obj: Json) -> str | None:
    """An owner first: of one that is suspended, a label that was edited stays so."""
    metadata = obj["metadata"]
    owners = (o for o in metadata.get("ownerReferences") or () if o["kind"] == "ModelDeployment")
    named = (metadata.get("labels") or {}).get(_MODEL)
    return next((owner["name"] for owner in owners), named)


def _served(world: World, space: Space, asked: Asked, view: View, version: str) -> Iterator[str]:
    digest = space.digest(version)
    if _template_digest(world, asked.name) != digest:
        yield f"the Deployment has another template than that of {version}"
    pods = world.pods(asked.name)
    good = [pod for pod in pods if _digest(pod) == digest and _is_ready(pod)]
    if not len(good) == len(pods) == asked.replicas:
        yield f"{len(good)} of {len(pods)} pods serve {version}, {asked.replicas} are wanted"
    if asked.replicas and view.serving != digest:
        yield f"status.serving is {view.serving}"


def _truth(world: World, asked: Asked, view: View) -> Iterator[str]:
    """What the status says against what there is, whatever was asked."""
    pods = world.pods(asked.name)
    ready = [pod for pod in pods if _is_ready(pod)]
    status, generation = view.status, view.obj["metadata"]["generation"]
    if status.get("observedGeneration") != generation:
        yield f"observedGeneration {status.get('observedGeneration')} of {generation}"
    for condition in view.conditions:
        if condition.get("observedGeneration") != generation:
            yield f"{condition['type']} is about generation {condition.get('observedGeneration')}"
    if status.get("replicas", 0) != len(pods):
        yield f"status.replicas {status.get('replicas')} of {len(pods)}"
    if (status.get("readyReplicas") or 0) != len(ready):
        yield f"status.readyReplicas {status.get('readyReplicas')} of {len(ready)}"
    if view.condition("Reconciling") and view.condition("Stalled"):
        yield "Reconciling and Stalled at once"
    if asked.suspended:
        return  # it keeps what was true last
    if (view.condition("Available").get("status") == "True") != bool(ready):
        yield f"Available is {view.condition('Available')} with {len(ready)} ready pods"
    if bool(view.serving) != bool(ready):
        yield f"status.serving is {view.serving!r} with {len(ready)} ready pods"
    elif ready and view.serving not in {_digest(pod) for pod in ready}:
        yield f"status.serving is {view.serving}, which no ready pod has"
    digest = view.obj["spec"]["model"]["digest"]
    wanted = len(ready) == len(pods) == asked.replicas and all(_digest(p) == digest for p in pods)
    if asked.replicas and (view.condition("Ready").get("status") == "True") != wanted:
        yield f"Ready is {view.condition('Ready')}, and {len(ready)} of {len(pods)} pods are"


def _children(world: World, asked: Asked, view: View) -> Iterator[str]:
    for resource in ("deployments", "services", "networkpolicies"):
        if world.child(resource, asked.name) is None:
            yield f"has no {resource}"
    if (world.child("poddisruptionbudgets", asked.name) is not None) != (asked.replicas >= 2):
        yield f"{asked.replicas} replicas and the wrong number of poddisruptionbudgets"
    uid = view.obj["metadata"]["uid"]
    for resource, by_model in world.owned.items():
        for obj in by_model.get(asked.name, ()):
            owners = obj["metadata"].get("ownerReferences") or []
            owner = next((o for o in owners if o.get("controller")), {})
            if owner.get("kind") == "ModelDeployment" and owner["uid"] != uid:
                yield f"{resource} {obj['metadata']['name']} belongs to a namesake"
    deployment = world.child("deployments", asked.name)
    if deployment is not None:
        if deployment["spec"]["replicas"] != asked.replicas:
            yield f"the Deployment wants {deployment['spec']['replicas']} replicas"
        if deployment["spec"].get("paused"):
            yield "the Deployment is paused"
        if HAND in str(deployment["spec"]):
            yield "the Deployment still has what was edited by hand"
    service = world.child("services", asked.name)
    if service is not None and HAND in str(service["spec"]):
        yield "the Service still has what was edited by hand"


def _template_digest(world: World, name: str) -> str:
    deployment = world.child("deployments", name)
    if deployment is None:
        return ""
    return deployment["spec"]["template"]["metadata"]["annotations"].get(_DIGEST, "")


def _digest(pod: Json) -> str:
    return (pod["metadata"].get("annotations") or {}).get(_DIGEST, "")


def _is_ready(pod: Json) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

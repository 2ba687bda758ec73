"""A namespace with ModelDeployments in it, and what tests want to know about them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from operator_kit.api import Api
from operator_kit.eventually import eventually
from operator_kit.fake_kubelet import FakeKubelet
from operator_kit.pod_status import Behaviour

Json = dict[str, Any]

MODEL = "fraud"
_CHILDREN = (
    "deployments", "replicasets", "pods", "services", "controllerrevisions",
    "horizontalpodautoscalers",
)  # fmt: skip
_LABEL = "slipway.dev/model"
_REVISION = "slipway.dev/revision"


@dataclass(frozen=True)
class View:
    """One ModelDeployment as the API server has it."""

    obj: Json

    def condition(self, kind: str) -> Json:
        """The condition of that type, or an empty one."""
        return next((c for c in self.conditions if c["type"] == kind), {})

    @property
    def conditions(self) -> list[Json]:
        """All conditions."""
        return self.status.get("conditions") or []

    @property
    def status(self) -> Json:
        """The status, or an empty one."""
        return self.obj.get("status") or {}

    @property
    def row(self) -> tuple[str, str, str, str]:
        """Ready, Reconciling, Stalled, Available; "-" for one that is left out."""
        wanted = ("Ready", "Reconciling", "Stalled", "Available")
        ready, reconciling, stalled, available = (
            self.condition(kind).get("status", "-") for kind in wanted
        )
        return ready, reconciling, stalled, available

    @property
    def reason(self) -> str:
        """Reason of Ready."""
        return self.condition("Ready").get("reason", "")

    @property
    def message(self) -> str:
        """Message of Ready."""
        return self.condition("Ready").get("message", "")

    @property
    def stalled(self) -> str:
        """Reason of Stalled, or nothing."""
        return self.condition("Stalled").get("reason", "")

    @property
    def serving(self) -> str:
        """The digest that answers requests."""
        return (self.status.get("serving") or {}).get("digest", "")

    @property
    def current(self) -> bool:
        """Whether the status is about the present generation."""
        return self.status.get("observedGeneration") == self.obj["metadata"]["generation"]

    @property
    def settled(self) -> bool:
        """Whether the present generation is served."""
        return self.current and self.condition("Ready").get("status") == "True"


class Space:
    """One namespace; models are named, versions of their artifact are words."""

    def __init__(self, api: Api, kubelet: FakeKubelet, namespace: str) -> None:
        self.api = api
        self.kubelet = kubelet
        self.namespace = namespace

    def create(self) -> Space:
        """Make the namespace and wait until pods can be made in it."""
        self.api.create("namespaces", {"metadata": {"name": self.namespace}})

        def usable() -> None:
            account = self.api.get("serviceaccounts", self.namespace, "default")
            assert account is not None, "the default ServiceAccount is not there yet"

        eventually(usable)
        return self

    def clear(self) -> None:
        """Delete its models. The namespace goes with the cluster: to end one costs much."""
        self.api.delete_all("modeldeployments", self.namespace)

    def remove(self) -> None:
        """Begin to delete the namespace."""
        self.api.delete("namespaces", None, self.namespace)

    # ---- as a user ----

    def digest(self, version: str) -> str:
        """The digest of one version of the artifact; unique to this namespace."""
        return "sha256:" + hashlib.sha256(f"{self.namespace}/{version}".encode()).hexdigest()

    def manifest(self, name: str = MODEL, version: str = "v1", **spec: Any) -> Json:
        """A ModelDeployment; ``annotations`` goes to its metadata, the rest to its spec."""
        annotations = spec.pop("annotations", {})
        storage = spec.pop("model", {})
        return {
            "apiVersion": "slipway.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {
                "name": name,
                "namespace": self.namespace,
                **({"annotations": annotations} if annotations else {}),
            },
            "spec": {
                "model": {
                    "uri": f"s3://models/{name}/{version}.onnx",
                    "digest": self.digest(version),
                    **storage,
                },
                **spec,
            },
        }

    def apply(self, name: str = MODEL, version: str = "v1", **spec: Any) -> View:
        """Apply a ModelDeployment: fields that it no longer names are dropped."""
        manifest = self.manifest(name, version, **spec)
        return View(
            self.api.patch(
                "modeldeployments", self.namespace, name, manifest, "apply", manager="a-user",
                force="true",
            )
        )  # fmt: skip

    def scale(self, replicas: int, name: str = MODEL) -> None:
        """Scale through the subresource, as ``kubectl scale`` does."""
        self.api.patch(
            "modeldeployments",
            self.namespace,
            name,
            {"spec": {"replicas": replicas}},
            subresource="scale",
        )

    def behave(self, version: str, behaviour: Behaviour) -> None:
        """What pods with this version report, now and from now on."""
        self.kubelet.behave(self.digest(version), behaviour)

    def delete(self, name: str = MODEL, policy: str = "Background") -> None:
        """Delete a ModelDeployment."""
        self.api.delete("modeldeployments", self.namespace, name, propagationPolicy=policy)

    def settle(self, name: str = MODEL, version: str = "v1", **spec: Any) -> View:
        """Apply, and wait until it is served and told of; nothing is written after that."""
        self.apply(name, version, **spec)
        view = self.until("is served", lambda m: m.settled, name)

        def told() -> None:
            assert view.reason in {event["reason"] for event in self.events(name)}

        self.eventually(told, name)
        return view

    # ---- to look at ----

    def view(self, name: str = MODEL) -> View:
        """The ModelDeployment as it is."""
        obj = self.api.get("modeldeployments", self.namespace, name)
        assert obj is not None, f"no ModelDeployment {name}"
        return View(obj)

    def until(
        self, what: str, check: Callable[[View], bool], name: str = MODEL, within: float = 15.0
    ) -> View:
        """Wait until a ModelDeployment is as wanted."""

        def probe() -> View:
            view = self.view(name)
            assert check(view), f"{name} {what}: not so"
            return view

        return eventually(probe, within, lambda: self.show(name))

    def eventually(self, check: Callable[[], Any], name: str = MODEL, within: float = 15.0) -> Any:
        """Wait for anything else."""
        return eventually(check, within, lambda: self.show(name))

    def child(self, resource: str, name: str = MODEL) -> Json:
        """A child that has the ModelDeployment's name."""
        obj = self.api.get(resource, self.namespace, name)
        assert obj is not None, f"no {resource} {name}"
        return obj

    def deployment(self, name: str = MODEL) -> Json:
        """The Deployment."""
        return self.child("deployments", name)

    def of(self, resource: str, name: str = MODEL) -> list[Json]:
        """All objects of a kind that belong to a ModelDeployment."""
        return self.api.list(resource, self.namespace, labelSelector=f"{_LABEL}={name}")

    def pods(self, version: str | None = None, name: str = MODEL) -> list[Json]:
        """Its pods that are not on their way out, of one version or of all."""
        return [
            pod
            for pod in self.of("pods", name)
            if "deletionTimestamp" not in pod["metadata"]
            and (
                version is None
                or pod["metadata"]["annotations"]["slipway.dev/digest"] == self.digest(version)
            )
        ]

    def revisions(self, name: str = MODEL) -> list[Json]:
        """ControllerRevisions, oldest first."""
        return sorted(self.of("controllerrevisions", name), key=lambda r: r["revision"])

    def replica_sets(self, name: str = MODEL) -> dict[str, Json]:
        """ReplicaSets by their revision label."""
        return {rs["metadata"]["labels"][_REVISION]: rs for rs in self.of("replicasets", name)}

    def events(self, name: str = MODEL) -> list[Json]:
        """Events about the ModelDeployment, oldest first."""
        about = f"involvedObject.kind=ModelDeployment,involvedObject.name={name}"
        found = self.api.list("events", self.namespace, fieldSelector=about)
        return sorted(found, key=lambda event: int(event["metadata"]["resourceVersion"]))

    def show(self, name: str = MODEL) -> str:
        """All objects of one ModelDeployment in short, for the message of a time-out."""
        model = self.api.get("modeldeployments", self.namespace, name) or {}
        shown = [{"spec": model.get("spec"), "status": model.get("status")}]
        for resource in _CHILDREN:
            shown.extend({resource: _in_short(obj)} for obj in self.of(resource, name))
        shown.extend({"event": f"{e['reason']}: {e['message']}"} for e in self.events(name))
        return yaml.safe_dump_all(shown, sort_keys=False, width=150)


def _in_short(obj: Json) -> Json:
    metadata, spec = obj["metadata"], obj.get("spec", {})
    kept = {
        key: metadata[key]
        for key in ("name", "generation", "deletionTimestamp", "annotations")
        if key in metadata
    }
    kept["revision"] = obj.get("revision") or metadata.get("labels", {}).get(_REVISION)
    wanted = {key: spec[key] for key in ("replicas", "paused", "nodeName") if key in spec}
    return {**kept, **wanted, "status": obj.get("status")}

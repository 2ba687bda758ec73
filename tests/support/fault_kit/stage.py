"""One fault's namespace: a good version serves under steady load, then another is asked for."""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar

from operator_kit.api import Api
from operator_kit.eventually import eventually
from operator_kit.space import View
from runtime_kit import onnx_models, packages

from fault_kit.storage_proxy import Disturbance, StorageProxy
from slipway_dev.testbed import OPERATOR_NAMESPACE, Artifact, Testbed
from slipway_dev.traffic import SteadyTraffic

Json = dict[str, Any]
T = TypeVar("T")

MODEL = "linear"
BODY = json.dumps({"x": [[1.0, 2.0, 3.0, 4.0]]}).encode()
_INTERVAL = 0.2
_SAMPLE = re.compile(r"^(\w+)\{(.*)\} ([0-9.e+]+)$", re.MULTILINE)


@dataclass(frozen=True)
class Change:
    """What the spec changes to: another artifact, other access to the storage, anything else."""

    artifact: Artifact | None = None
    storage: Json = field(default_factory=dict[str, Any])
    spec: Json = field(default_factory=dict[str, Any])


class Stage:
    """A namespace of a cluster that other stages share, and a ModelDeployment in it."""

    def __init__(
        self,
        testbed: Testbed,
        api: Api,
        namespace: str,
        starts: AbstractContextManager[Any],
        over: threading.Event,
    ) -> None:
        """``starts`` bounds how many stages start pods at once, as two cores can bear; once
        ``over`` is set nothing is waited for any more.
        """
        self.testbed = testbed
        self.api = api
        self.namespace = namespace
        self.starts = starts
        self._over = over
        self.good = Artifact("", "")
        self.notes: dict[str, Any] = {}
        """What a fault keeps for its mending."""
        self._exit = ExitStack()

    def __enter__(self) -> Stage:
        self.testbed.create_namespace(self.namespace)
        # The namespace goes with the cluster: to end one costs much.
        self._exit.callback(self.api.delete_all, "modeldeployments", self.namespace)
        self.good = self.upload(onnx_models.linear(), "good")
        return self

    def __exit__(self, *error: object) -> None:
        self._exit.close()

    def afterwards(self, act: Callable[..., object], *arguments: Any, **named: Any) -> None:
        """Do this when the stage is left: what the cluster should not keep."""
        self._exit.callback(act, *arguments, **named)

    def enter(self, manager: AbstractContextManager[T]) -> T:
        """Enter a context that is left with the stage."""
        return self._exit.enter_context(manager)

    # ---- storage ----

    def upload(self, content: bytes, name: str = "new") -> Artifact:
        """Put an artifact where only this stage looks for it."""
        return self.testbed.upload(f"{self.namespace}/{name}.onnx", content)

    def upload_package(self, files: Mapping[str, tuple[str, bytes]]) -> Artifact:
        """Put a package there: path -> role and content, and the manifest that lists them."""
        for path, (_, content) in files.items():
            self.testbed.upload(f"{self.namespace}/package/{path}", content)
        listed = [packages.entry(path, content, role) for path, (role, content) in files.items()]
        manifest = json.dumps(packages.manifest(listed)).encode()
        return self.testbed.upload(f"{self.namespace}/package/slipway.json", manifest)

    def another(self) -> Artifact:
        """A second good version."""
        return self.upload(onnx_models.linear(bias=2.0))

    def proxy(self, disturbance: Disturbance | None = None) -> StorageProxy:
        """The storage behind a proxy of the stage's own."""
        made = StorageProxy(self.testbed.s3.endpoint, self.testbed.cluster.node_address)
        made.disturbance = disturbance or Disturbance()
        return self.enter(made)

    # ---- the model ----

    def manifest(self, change: Change) -> Json:
        """The ModelDeployment with a change."""
        artifact = change.artifact or self.good
        model = self.testbed.model(self.namespace, MODEL, artifact, **change.spec)
        model["spec"]["model"]["storage"].update(change.storage)
        return model

    def apply(self, change: Change) -> View:
        """Apply it; fields that it no longer names are dropped."""
        return View(
            self.api.patch(
                "modeldeployments", self.namespace, MODEL, self.manifest(change), "apply",
                manager="a-user", force="true",
            )
        )  # fmt: skip

    def view(self) -> View:
        """The ModelDeployment now."""
        obj = self.api.get("modeldeployments", self.namespace, MODEL)
        assert obj is not None, "no ModelDeployment"
        return View(obj)

    def eventually(self, check: Callable[[], T], within: float = 30) -> T:
        """`eventually`, looking less often than it would: other stages are at work."""

        def look() -> T:
            if self._over.is_set():
                raise InterruptedError("the run was ended")
            return check()

        return eventually(look, within, interval=_INTERVAL)

    def until(self, what: str, holds: Callable[[View], bool], within: float) -> View:
        """Wait for something to be true of the ModelDeployment."""

        def check() -> View:
            view = self.view()
            assert holds(view), f"{what}: {json.dumps(view.status, indent=1)}"
            return view

        return self.eventually(check, within)

    def serves(self, artifact: Artifact, within: float = 180) -> View:
        """Wait until the model is Ready and this artifact answers.

        A container that failed three times is started again by the kubelet after 40 to 80 seconds.
        """
        return self.until(
            f"serves {artifact.digest}",
            lambda view: view.settled and view.serving == artifact.digest,
            within,
        )

    # ---- traffic ----

    def traffic(self, address: str | None = None) -> SteadyTraffic:
        """Steady requests to the Service, or to a pod's own address."""
        where = address or self.testbed.service_address(self.namespace, MODEL)
        return SteadyTraffic(where, "/predict", BODY, clients=2, rate=20)

    def more_answers(self, traffic: SteadyTraffic, count: int = 20) -> None:
        """Wait until so many more requests were answered."""
        before = traffic.tally.by_digest.total()

        def check() -> None:
            assert traffic.tally.by_digest.total() >= before + count, traffic.tally

        self.eventually(check)

    # ---- what else tells of a fault ----

    def deployment(self) -> Json:
        """The Deployment."""
        found = self.api.get("deployments", self.namespace, MODEL)
        assert found is not None, "no Deployment"
        return found

    def pods(self, digest: str | None = None) -> list[Json]:
        """The pods, of one digest or all."""
        pods = self.api.list("pods", self.namespace, labelSelector=f"slipway.dev/model={MODEL}")
        return [p for p in pods if digest in (None, _digest(p))]

    def pods_created(self, digest: str) -> int:
        """How many pods were ever created for a digest, by the words of its ReplicaSets."""
        sets = self.api.list("replicasets", self.namespace)
        ours = {s["metadata"]["name"] for s in sets if _digest(s["spec"]["template"]) == digest}
        return sum(
            event.get("count") or 1
            for event in self.api.list("events", self.namespace)
            if event["reason"] == "SuccessfulCreate" and event["involvedObject"]["name"] in ours
        )

    def events(self) -> list[Json]:
        """Events about the ModelDeployment."""
        return [
            event
            for event in self.api.list("events", self.namespace)
            if event["involvedObject"]["kind"] == "ModelDeployment"
        ]

    def verdicts(self, reason: str) -> float:
        """The operator's count of rollouts that failed for this reason."""
        address = self.testbed.service_address(OPERATOR_NAMESPACE, "slipway-metrics")
        connection = http.client.HTTPConnection(address, timeout=10)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        wanted = {'outcome="Failed"', f'reason="{reason}"'}
        return sum(
            float(value)
            for name, labels, value in _SAMPLE.findall(text)
            if name == "slipway_operator_rollouts_total" and set(labels.split(",")) == wanted
        )

    def show(self) -> str:
        """What a person would look at first."""
        kubectl = self.testbed.cluster.kubectl
        pods = kubectl("get", "mdep,deploy,rs,pods", "-n", self.namespace, check=False).stdout
        events = kubectl(
            "get", "events", "-n", self.namespace, "--sort-by=.lastTimestamp", check=False
        ).stdout
        return f"{pods}\n{events}"


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began


def bounded(count: int) -> AbstractContextManager[Any]:
    """A semaphore, as a type that says only what is used of it."""
    return threading.BoundedSemaphore(count)


def _digest(template: Json) -> str:
    return template["metadata"].get("annotations", {}).get("slipway.dev/digest", "")

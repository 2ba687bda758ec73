"""The operator and its cluster on one clock that only the test moves."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from fake_cluster import pods, samples
from fake_cluster.api import FakeApi
from slipway_operator.api.names import LABEL_DIGEST, LABEL_MANAGED_BY, LABEL_REVISION, MANAGED_BY
from slipway_operator.api.settings import Settings
from slipway_operator.reconcile import kinds
from slipway_operator.reconcile.contention import Contention
from slipway_operator.reconcile.execute import Executor
from slipway_operator.reconcile.fetch_log import FetchLog
from slipway_operator.reconcile.lost_revisions import LostRevisions
from slipway_operator.reconcile.observation import Observation
from slipway_operator.reconcile.observe import observe
from slipway_operator.reconcile.pace import StatusPace
from slipway_operator.reconcile.pod_events import PodEvents
from slipway_operator.reconcile.reconciler import Reconciler, Result
from slipway_operator.reconcile.store import Store

Json = dict[str, Any]
KEY = (samples.NAMESPACE, samples.NAME)
_ROUNDS = 40


class NeverQuietError(AssertionError):
    """The operator and the controllers kept on changing things."""


class World:
    """One ModelDeployment, the operator, and what the controllers make of its children.

    ``behaviours`` says what a pod reports, by the letter of its artifact's digest.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.clock = samples.NOON
        self.settings = settings or samples.settings()
        self.api = FakeApi(lambda: self.clock)
        self.served: frozenset[str] = frozenset()
        """Optional kinds that this cluster has."""
        self.behaviours: dict[str, pods.Behaviour] = {}
        self._alone: dict[str, pods.Behaviour] = {}
        self.results: list[Result] = []
        self.templates: list[str] = []
        """Digests of the Deployment's template, one for each change of it."""
        self.restart()

    # The operator.

    def restart(self) -> None:
        """A new process that knows only what the API server has."""
        self.store = Store()
        self.api.deleted.clear()
        contention = Contention(self.settings.conflict_backoff_seconds, self._seconds)
        executor = Executor(
            self.api,  # type: ignore[arg-type]
            self.store,
            contention,
            lambda: self.clock,
        )
        pod_events = PodEvents(self.api, lambda: self.clock)
        self.reconciler = Reconciler(
            self.store,
            executor,
            pod_events,
            FetchLog(self.api, lambda: self.clock),
            LostRevisions(self.api, self.store),
            StatusPace(monotonic=self._seconds),
            self.settings,
            lambda: self.clock,
            lambda _namespace: self.served,
        )

    def _seconds(self) -> float:
        return self.clock.timestamp()

    def watch(self) -> None:
        """Let every event arrive."""
        for kind, obj in self.api.deleted:
            self.store.remove(kind, copy.deepcopy(obj))
        self.api.deleted.clear()
        for (name, _, _), obj in list(self.api.objects.items()):
            kind = self.api.kinds[name]
            if name not in kinds.BY_NAME:
                continue
            # An object that no longer matches the watch's selector is told of as deleted.
            tell = self.store.put if _selected(kind, obj) else self.store.remove
            tell(kind, copy.deepcopy(obj))

    async def reconcile(self) -> Result:
        self.watch()
        result = await self.reconciler.reconcile(KEY)
        self.results.append(result)
        return result

    def observation(self) -> Observation:
        self.watch()
        obs = observe(self.store, KEY)
        assert obs is not None
        return obs

    async def run(self) -> None:
        """Until neither the operator nor a controller has anything more to do."""
        for _ in range(_ROUNDS):
            before = self.api.changes
            while (await self.reconcile()).unfinished:
                pass
            self.controllers()
            if self.api.changes == before:
                return
        raise NeverQuietError(self.api.writes[-12:])

    # People.

    def apply(self, **changes: Any) -> None:
        """A user creates the ModelDeployment, or changes its spec; a value of ``...`` removes."""
        address = (kinds.MODEL_DEPLOYMENT.name, *KEY)
        letter = changes.pop("digest", None)
        if address not in self.api.objects:
            self.api.add(kinds.MODEL_DEPLOYMENT, samples.model_object(letter or samples.A))

        def change(obj: Json) -> None:
            if letter:
                obj["spec"]["model"]["digest"] = letter
            for name, value in changes.items():
                if value is ...:
                    obj["spec"].pop(name, None)
                else:
                    obj["spec"][name] = value

        self.api.update(kinds.MODEL_DEPLOYMENT, samples.NAME, samples.NAMESPACE, change)

    def annotate(self, **annotations: str) -> None:
        """Annotations of the group slipway.dev, by their short names."""

        def change(obj: Json) -> None:
            obj["metadata"]["annotations"] = {
                **obj["metadata"].get("annotations", {}),
                **{f"slipway.dev/{name}": value for name, value in annotations.items()},
            }

        self.api.update(kinds.MODEL_DEPLOYMENT, samples.NAME, samples.NAMESPACE, change)

    def change(self, kind: kinds.Kind, change: Callable[[Json], None]) -> None:
        """Somebody changes the child of that kind."""
        self.api.update(kind, samples.NAME, samples.NAMESPACE, change)

    # Controllers and time.

    def advance(self, seconds: float) -> None:
        self.clock += timedelta(seconds=seconds)

    def controllers(self) -> None:
        """The Deployment controller and the kubelets, until they are done."""
        for deployment in self.api.of_kind(kinds.DEPLOYMENT):
            while self._roll(deployment["metadata"]["name"]):
                pass

    def _roll(self, name: str) -> bool:
        if self.templates[-1:] != [self.applied_digest]:
            self.templates.append(self.applied_digest)
        before = self.api.changes
        deployment = self.api.objects[kinds.DEPLOYMENT.name, samples.NAMESPACE, name]
        wanted: int = deployment["spec"]["replicas"]
        new = self._replica_set(deployment)
        old = [r for r in self._replica_sets(deployment) if r is not new]
        ready_new = self._ready(new)
        keep_old = max(0, wanted - ready_new)
        for replica_set in old:
            members = self._pods(replica_set)
            for pod in members[keep_old:]:
                self.api.remove(kinds.POD, pod)
            keep_old = max(0, keep_old - len(members))
        members = self._pods(new)
        for pod in members[wanted:]:
            self.api.remove(kinds.POD, pod)
        for _ in range(wanted - len(members)):
            self._create_pod(new)
        for replica_set in (new, *old):
            for pod in self._pods(replica_set):
                self._report(pod)
        self._count(deployment, new, old)
        return self.api.changes != before

    def _replica_sets(self, owner: Json) -> list[Json]:
        return [r for r in self.api.of_kind(kinds.REPLICA_SET) if _owned(r, owner)]

    def _pods(self, owner: Json) -> list[Json]:
        return [p for p in self.api.of_kind(kinds.POD) if _owned(p, owner)]

    def _ready(self, replica_set: Json) -> int:
        return sum(_is_ready(pod) for pod in self._pods(replica_set))

    def _replica_set(self, deployment: Json) -> Json:
        template = deployment["spec"]["template"]
        revision = template["metadata"]["labels"][LABEL_REVISION]
        for known in self._replica_sets(deployment):
            if known["spec"]["template"] == template:
                return known
        same = len(self._replica_sets(deployment))
        created = self.api.add(
            kinds.REPLICA_SET,
            {
                "metadata": {
                    "name": f"{deployment['metadata']['name']}-{revision}-{same}",
                    "namespace": deployment["metadata"]["namespace"],
                    "labels": template["metadata"]["labels"],
                    "ownerReferences": [_controller(deployment, "Deployment")],
                },
                "spec": {"template": copy.deepcopy(template)},
            },
        )
        self._condition(deployment, "True", "NewReplicaSetCreated")
        return created

    def _create_pod(self, replica_set: Json) -> None:
        number = len(self.api.objects) + len(self.api.deleted)
        name = f"{replica_set['metadata']['name']}-{number}"
        while (kinds.POD.name, samples.NAMESPACE, name) in self.api.objects:
            name += "x"
        self.api.add(
            kinds.POD,
            {
                "metadata": {
                    "name": name,
                    "namespace": samples.NAMESPACE,
                    "labels": replica_set["metadata"]["labels"],
                    "ownerReferences": [_controller(replica_set, "ReplicaSet")],
                },
            },
        )

    def _report(self, pod: Json) -> None:
        letter = pod["metadata"]["labels"][LABEL_DIGEST][0]
        shared = self.behaviours.get(letter, pods.ready)
        behaviour = self._alone.get(pod["metadata"]["name"], shared)
        created: str = pod["metadata"]["creationTimestamp"]
        status = behaviour(created)
        self.api.update(
            kinds.POD,
            pod["metadata"]["name"],
            samples.NAMESPACE,
            lambda obj: obj.update(status=status),
        )

    def _count(self, deployment: Json, new: Json, old: list[Json]) -> None:
        for replica_set in (new, *old):
            counts = {
                "replicas": len(self._pods(replica_set)),
                "readyReplicas": self._ready(replica_set),
            }
            self.api.update(
                kinds.REPLICA_SET,
                replica_set["metadata"]["name"],
                samples.NAMESPACE,
                lambda obj, counts=counts: obj.update(status=counts),
            )
        everyone = [p for r in (new, *old) for p in self._pods(r)]
        ready = sum(_is_ready(pod) for pod in everyone)

        def change(obj: Json) -> None:
            status = obj.setdefault("status", {})
            status |= {
                "observedGeneration": obj["metadata"]["generation"],
                "replicas": len(everyone),
                "updatedReplicas": len(self._pods(new)),
                "readyReplicas": ready,
                "availableReplicas": ready,
            }

        self.change(kinds.DEPLOYMENT, change)
        wanted = deployment["spec"]["replicas"]
        if self._ready(new) == len(everyone) == wanted:
            self._condition(deployment, "True", "NewReplicaSetAvailable")

    def _condition(self, deployment: Json, status: str, reason: str) -> None:
        def change(obj: Json) -> None:
            before = obj.setdefault("status", {}).get("conditions", [])
            if before and (before[0]["status"], before[0]["reason"]) == (status, reason):
                return
            obj["status"]["conditions"] = [
                {
                    "type": "Progressing",
                    "status": status,
                    "reason": reason,
                    "lastUpdateTime": self.api.now(),
                    "lastTransitionTime": self.api.now(),
                }
            ]

        self.api.update(kinds.DEPLOYMENT, deployment["metadata"]["name"], samples.NAMESPACE, change)

    def report_alone(self, pod: str, behaviour: pods.Behaviour) -> None:
        """Let one pod report something else than its artifact's others."""
        self._alone[pod] = behaviour

    def pass_deadline(self, after: float | None = None) -> None:
        """Time goes by until the Deployment controller gives up hope: its deadline, or less."""
        (deployment,) = self.api.of_kind(kinds.DEPLOYMENT)
        self.advance(deployment["spec"]["progressDeadlineSeconds"] + 1 if after is None else after)
        self._condition(deployment, "False", "ProgressDeadlineExceeded")

    # Looking at it.

    @property
    def status(self) -> Json:
        return self.api.objects[(kinds.MODEL_DEPLOYMENT.name, *KEY)].get("status", {})

    @property
    def conditions(self) -> dict[str, str]:
        return {c["type"]: c["status"] for c in self.status["conditions"]}

    def condition(self, kind: str) -> Json:
        return next(c for c in self.status["conditions"] if c["type"] == kind)

    @property
    def deployment(self) -> Json:
        return self.api.objects[(kinds.DEPLOYMENT.name, *KEY)]

    @property
    def applied_digest(self) -> str:
        """The digest in the live pod template."""
        return self.deployment["spec"]["template"]["metadata"]["annotations"]["slipway.dev/digest"]

    @property
    def events(self) -> list[Json]:
        return self.api.of_kind(kinds.EVENT)

    @property
    def revisions(self) -> list[Json]:
        return sorted(self.api.of_kind(kinds.CONTROLLER_REVISION), key=lambda r: r["revision"])

    def own(self, kind: kinds.Kind) -> Json | None:
        return self.api.objects.get((kind.name, *KEY))


def _selected(kind: kinds.Kind, obj: Json) -> bool:
    labels = obj["metadata"].get("labels", {})
    return not kind.owned or labels.get(LABEL_MANAGED_BY) == MANAGED_BY


def _owned(obj: Json, owner: Json) -> bool:
    uid = owner["metadata"]["uid"]
    return any(r["uid"] == uid for r in obj["metadata"].get("ownerReferences", ()))


def _controller(owner: Json, kind: str) -> Json:
    metadata = owner["metadata"]
    return {"kind": kind, "name": metadata["name"], "uid": metadata["uid"], "controller": True}


def _is_ready(pod: Json) -> bool:
    return any(
        c["type"] == "Ready" and c["status"] == "True"
        for c in pod.get("status", {}).get("conditions", ())
    )

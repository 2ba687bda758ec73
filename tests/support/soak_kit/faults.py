"""What goes wrong around users: processes, the API server, and people with kubectl."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Mapping

from operator_kit.space import Space

from slipway_dev.cluster import Cluster
from soak_kit.asked import Asked
from soak_kit.oracle import HAND
from soak_kit.replicas import Replicas

_SERVE = "/spec/template/spec/containers/0"
_EDITS: dict[str, list[tuple[str, object]]] = {
    "deployments": [
        (f"{_SERVE}/env/0/value", HAND),
        (f"{_SERVE}/image", f"registry.example.com/{HAND.lower()}:1"),
        ("/spec/replicas", 5),
        ("/spec/paused", True),
        ("/spec/progressDeadlineSeconds", 999),
        ("/metadata/labels/app.kubernetes.io~1managed-by", HAND),
    ],
    "services": [
        ("/spec/selector/slipway.dev~1model", HAND),
        ("/metadata/labels/slipway.dev~1model", HAND),
    ],
}
_DELETED = ("deployments", "services", "networkpolicies", "replicasets", "pods")
_WIPED = {
    "conditions": None,
    "serving": None,
    "history": None,
    "target": None,
    "lastFailure": None,
    "observedGeneration": None,
}
_FROZEN_SECONDS = 6.0
_SHORT_SECONDS = 1.5


class Saboteur:
    """Does harm by a seeded dice; each kind is counted."""

    def __init__(
        self,
        cluster: Cluster,
        space: Space,
        replicas: Replicas,
        population: Mapping[str, Asked],
        dice: random.Random,
    ) -> None:
        self.faults: dict[str, int] = {}
        self._cluster = cluster
        self._space = space
        self._replicas = replicas
        self._population = population
        self._dice = dice

    def meddle(self) -> None:
        """Somebody changes or deletes what the operator keeps."""
        if not self._population:
            return
        name = self._dice.choice(sorted(self._population))
        deed: Callable[[str], None] = self._dice.choice(
            (self._delete_child, self._edit_child, self._wipe_status)
        )
        deed(name)

    def strike(self, *, leader_too: bool) -> None:
        """A process or the API server fails; only a ``leader_too`` ends or freezes the leader."""
        gentle = (self._kill_standby, self._hold_api_server, self._hold_etcd)
        rough = (self._kill_leader, self._stop_leader, self._freeze_leader, self._lose_api_server)
        self._dice.choice((*gentle, *rough) if leader_too else gentle)()

    def _count(self, fault: str) -> None:
        self.faults[fault] = self.faults.get(fault, 0) + 1

    # ---- people ----

    def _delete_child(self, name: str) -> None:
        resource = self._dice.choice(_DELETED)
        found = self._space.of(resource, name)
        if found:
            self._count(f"deleted: {resource}")
            victim = self._dice.choice(sorted(obj["metadata"]["name"] for obj in found))
            self._space.api.delete(resource, self._space.namespace, victim)

    def _edit_child(self, name: str) -> None:
        resource = self._dice.choice(sorted(_EDITS))
        where, value = self._dice.choice(_EDITS[resource])
        if self._space.api.get(resource, self._space.namespace, name) is None:
            return
        self._count(f"edited: {resource} {where}")
        patch = [{"op": "add", "path": where, "value": value}]
        self._space.api.patch(
            resource, self._space.namespace, name, patch, "json", manager="kubectl-edit"
        )

    def _wipe_status(self, name: str) -> None:
        self._count("status wiped")
        self._space.api.patch(
            "modeldeployments",
            self._space.namespace,
            name,
            {"status": _WIPED},
            subresource="status",
        )

    # ---- machines ----

    def _kill_leader(self) -> None:
        leader = self._replicas.leader()
        if leader is not None:
            self._count("leader killed")
            leader.kill()

    def _stop_leader(self) -> None:
        leader = self._replicas.leader()
        if leader is not None:
            self._count("leader stopped")
            leader.signal(signal.SIGTERM)

    def _freeze_leader(self) -> None:
        leader = self._replicas.leader()
        if leader is not None:
            self._count("leader frozen until another leads")
            leader.signal(signal.SIGSTOP)
            time.sleep(_FROZEN_SECONDS)
            leader.signal(signal.SIGCONT)

    def _kill_standby(self) -> None:
        standby = self._replicas.standby()
        if standby is not None:
            self._count("standby killed")
            standby.kill()

    def _lose_api_server(self) -> None:
        """It crashes; Kubernetes' own controllers start anew, or they would back off for long."""
        self._count("API server killed and started")
        self._cluster.stop("apiserver", grace=0)
        self._cluster.start("apiserver")
        for component in ("controller-manager", "scheduler"):
            self._cluster.stop(component, grace=0)
            self._cluster.start(component)

    def _hold_api_server(self) -> None:
        self._pause("apiserver")

    def _hold_etcd(self) -> None:
        self._pause("etcd")

    def _pause(self, component: str) -> None:
        self._count(f"{component} frozen for {_SHORT_SECONDS:g} s")
        self._cluster.pause(component)
        time.sleep(_SHORT_SECONDS)
        self._cluster.resume(component)

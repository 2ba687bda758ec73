"""Plays the kubelet of one node through the API: no pod runs, but each reports as one that does.

The scheduler binds pods to the node. What a pod then reports is decided by its artifact: a test
says ``kubelet.behave(digest, behaviour)``, for pods that are there and for those that come.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from operator_kit import pod_status
from operator_kit.api import Api, ApiError, Unreachable
from operator_kit.pod_status import Behaviour

Json = dict[str, Any]

_DIGEST = "slipway.dev/digest"
_HEARTBEAT_SECONDS = 8.0
_LEASES = "kube-node-lease"


class FakeKubelet:
    """One node that exists only as objects."""

    def __init__(self, api: Api, node: str = "fake-node") -> None:
        self._api = api
        self._node = node
        self._behaviours: dict[str, Behaviour] = {}
        self._alone: dict[str, Behaviour] = {}
        self._reported: dict[str, Behaviour] = {}
        self._pods: dict[str, Json] = {}
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=(run,), daemon=True, name=run.__name__)
            for run in (self._heartbeat, self._follow)
        ]

    def start(self) -> None:
        """Register the node and go to work."""
        self._register()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop reporting. A watch in flight ends with the process or the API server."""
        self._stop.set()

    def behave(self, digest: str, behaviour: Behaviour) -> None:
        """Let every pod with this artifact report this, now and from now on."""
        with self._lock:
            self._behaviours[digest] = behaviour
            pods = [pod for pod in self._pods.values() if _digest(pod) == digest]
        for pod in pods:
            self._play(pod)

    def report(self, pod: Json, behaviour: Behaviour) -> None:
        """Let one pod report something else than its artifact's others."""
        with self._lock:
            self._alone[pod["metadata"]["uid"]] = behaviour
        self._play(pod)

    # ---- inside ----

    def _repeat(self, run: Callable[[], None]) -> None:
        while not self._stop.is_set():
            try:
                run()
            except (ApiError, Unreachable):
                # The API server is away, or the watch is too old: begin again.
                self._stop.wait(0.1)

    def _register(self) -> None:
        self._api.create(
            "nodes",
            {
                "metadata": {"name": self._node, "labels": {"kubernetes.io/os": "linux"}},
                "status": self._node_status(),
            },
        )
        self._renew()
        self._api.patch("nodes", None, self._node, {"status": self._node_status()}, "strategic",
                        "status")  # fmt: skip

    def _node_status(self) -> Json:
        room = {"cpu": "1k", "memory": "4Ti", "pods": "1k", "ephemeral-storage": "4Ti"}
        return {
            "capacity": room,
            "allocatable": room,
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": "KubeletReady",
                    "lastHeartbeatTime": pod_status.now(),
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }
            ],
        }

    def _heartbeat(self) -> None:
        self._api.patch(
            "nodes", None, self._node, {"status": self._node_status()}, "strategic", "status"
        )
        self._renew()
        self._stop.wait(_HEARTBEAT_SECONDS)

    def _renew(self) -> None:
        micro = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
        lease: Json = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._node, "namespace": _LEASES},
            "spec": {"holderIdentity": self._node, "leaseDurationSeconds": 40, "renewTime": micro},
        }
        self._api.patch("leases", _LEASES, self._node, lease, "apply", force="true")

    def _follow(self) -> None:
        mine = {"fieldSelector": f"spec.nodeName={self._node}"}
        listing = self._api.listing("pods", **mine)
        with self._lock:
            self._pods = {pod["metadata"]["uid"]: pod for pod in listing["items"]}
        for pod in listing["items"]:
            self._play(pod)
        version = listing["metadata"]["resourceVersion"]
        for kind, pod in self._api.watch("pods", None, version, **mine):
            if kind == "ERROR" or self._stop.is_set():
                return  # too old a watch, or a node that is silent from now on
            uid = pod["metadata"]["uid"]
            with self._lock:
                if kind == "DELETED":
                    self._pods.pop(uid, None)
                    self._reported.pop(uid, None)
                    self._alone.pop(uid, None)
                    continue
                self._pods[uid] = pod
            self._play(pod)

    def _play(self, pod: Json) -> None:
        metadata = pod["metadata"]
        uid = metadata["uid"]
        if "deletionTimestamp" in metadata:
            self._api.delete(
                "pods",
                metadata["namespace"],
                metadata["name"],
                gracePeriodSeconds=0,
                preconditions={"uid": uid},
            )
            return
        with self._lock:
            shared = self._behaviours.get(_digest(pod), pod_status.ready)
            behaviour = self._alone.get(uid, shared)
            status = behaviour()
            if self._reported.get(uid) is behaviour and not _was_overruled(pod, status):
                return
            self._reported[uid] = behaviour
            # Written under the lock: two reports about one pod must arrive in their order.
            self._write(pod, status)

    def _write(self, pod: Json, status: Json) -> None:
        metadata = pod["metadata"]
        try:
            self._api.patch(
                "pods",
                metadata["namespace"],
                metadata["name"],
                {"metadata": {"uid": metadata["uid"]}, "status": status},
                "strategic",
                "status",
            )
        except (ApiError, Unreachable) as error:
            if isinstance(error, ApiError) and _is_gone(error):
                return
            with self._lock:
                self._reported.pop(metadata["uid"], None)
            raise


def _was_overruled(pod: Json, status: Json) -> bool:
    """Whether somebody else calls a pod not ready that is.

    As the node controller does when heartbeats come late; a kubelet then reports anew.
    """
    return _ready(status) == "True" and _ready(pod.get("status") or {}) == "False"


def _ready(status: Json) -> str:
    conditions = status.get("conditions") or ()
    return next((c["status"] for c in conditions if c["type"] == "Ready"), "")


def _is_gone(error: ApiError) -> bool:
    """Whether the pod went, or another has its name. On a busy server 409 may be mere haste."""
    return error.status == 404 or (error.status == 409 and "uid" in str(error).lower())


def _digest(pod: Json) -> str:
    return (pod["metadata"].get("annotations") or {}).get(_DIGEST, "")

"""Rows of the fault table that go another way than `play.Fault`."""

from __future__ import annotations

import http.client
import json
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from operator_kit.space import View
from runtime_kit import onnx_models

from fault_kit.artifact_faults import SOON, not_there
from fault_kit.play import Seen, essence
from fault_kit.stage import MODEL, Change, Stage, Stopwatch
from fault_kit.storage_proxy import Disturbance
from slipway_dev.testbed import Artifact

Json = dict[str, Any]


def first_version_waits(stage: Stage) -> Seen:
    """A first version has nothing to go back to: past its deadline too it waits, and heals."""
    artifact = not_there(stage)
    watch = Stopwatch()
    with stage.starts:
        stage.apply(Change(artifact, spec=SOON))
        named = stage.until("named", lambda v: v.reason == "ArtifactNotFound", 30)
    seconds = watch.seconds
    assert named.row[2:] in (("-", "False"), ("True", "False"))
    held = stage.until("past its deadline", lambda v: v.stalled == "RolloutHeld", 30)
    assert "it goes on by itself once the cause is gone" in held.message
    watch = Stopwatch()
    stage.another()
    stage.serves(artifact)
    healed = f"by itself, {watch.seconds:.0f} s after the object came, though past its deadline"
    return Seen("ArtifactNotFound", essence(stage, held), seconds, 0, 0, healed)


def slow_storage(stage: Stage) -> Seen:
    """A slow transfer is no fault: the old version serves, and the status counts the bytes."""
    with stage.starts:
        stage.apply(Change())
        stage.serves(stage.good)
    large = stage.upload(onnx_models.linear(bias=2.0, ballast=5 << 20))
    proxy = stage.proxy(Disturbance(bytes_per_second=200 << 10))
    counted: dict[int, int] = {}
    """Bytes fetched, by the version of the object in whose status they were seen."""

    def fetched(view: View) -> bool:
        progress = view.status.get("progress") or {}
        if "fetchedBytes" in progress:
            counted[int(view.obj["metadata"]["resourceVersion"])] = progress["fetchedBytes"]
            assert progress["totalBytes"] > 5 << 20
            assert progress["fetching"] == 1
        return view.settled and view.serving == large.digest

    with stage.traffic() as traffic:
        watch = Stopwatch()
        stage.apply(Change(large, {"endpoint": proxy.url}))
        rolling = stage.until("rolls out", lambda v: v.reason == "RollingOut", 10)
        seconds = watch.seconds
        assert rolling.row == ("Unknown", "True", "-", "True")
        stage.until("serves the new version", fetched, 90)
        took = watch.seconds
    assert took >= 25, "5 MiB at 200 KiB/s"
    seen = [counted[version] for version in sorted(counted)]
    assert len(set(seen)) >= 2, f"the count does not move: {seen}"
    assert seen == sorted(seen)
    assert len(seen) <= took / 5 + 1, f"a write for every step: {seen}"
    assert "lastFailure" not in stage.view().status
    tally = traffic.tally
    assert not tally.failures, str(tally)
    healed = (
        f"rolled out after {took:.0f} s; the status showed "
        f"{', '.join(f'{count / 1e6:.1f}' for count in seen)} MB fetched on the way"
    )
    return Seen("RollingOut", essence(stage, rolling), seconds, tally.sent, tally.failed, healed)


def out_of_memory_under_traffic(stage: Stage) -> Seen:
    """A version that loads and warms up, and dies of certain requests, is given up too.

    The steady load goes to the old version's own pod: of requests through the Service those that
    a dying pod holds are lost in any cluster.
    """
    with stage.starts:
        stage.apply(Change())
        stage.serves(stage.good)
    (old,) = stage.pods()
    artifact = stage.upload(onnx_models.grows_with_its_batch())
    rollout = {"minReadySeconds": 120, "progressDeadlineSeconds": 300}
    poison = {"x": [[1.0, 2.0, 3.0, 4.0]] * 1500}
    with stage.traffic(f"{old['status']['podIP']}:8080") as traffic:
        verdicts = stage.verdicts("OutOfMemory")
        stage.apply(Change(artifact, spec={"rollout": rollout}))
        first = _ready_container(stage, artifact)
        watch = Stopwatch()
        _poison(stage, artifact, poison)
        told = stage.until("named", lambda v: v.reason == "OutOfMemory", 30)
        seconds = watch.seconds
        assert "spec.runtime.resources.limits.memory" in told.message
        poisoned = {first}
        for _ in range(2):
            started = _ready_container(stage, artifact, poisoned)
            if started is None:
                break
            _poison(stage, artifact, poison)
            poisoned.add(started)
        stage.until("rolled back", lambda v: v.stalled == "RolledBack", 60)
        stage.more_answers(traffic)
    assert stage.verdicts("OutOfMemory") > verdicts
    tally = traffic.tally
    assert not tally.failures, str(tally)
    return Seen(
        "OutOfMemory", essence(stage, told), seconds, tally.sent, tally.failed,
        "rolled back to the version before",
    )  # fmt: skip


def _ready_container(
    stage: Stage, artifact: Artifact, died: Collection[str | None] = ()
) -> str | None:
    """Wait for the version's container to be ready; None once the rollout was given up.

    Args:
        died: containers that do not count. For a moment after its death the kubelet still calls a
            container ready.
    """

    def check() -> str | None:
        if stage.view().stalled:
            return None
        (pod,) = stage.pods(artifact.digest)
        (container,) = pod["status"].get("containerStatuses", ())
        assert container["ready"], pod["status"]
        assert container["containerID"] not in died, pod["status"]
        return container["containerID"]

    return stage.eventually(check, 90)


def _poison(stage: Stage, artifact: Artifact, body: Json) -> None:
    """Send the request that kills to the new version's pod."""
    pods = stage.pods(artifact.digest)
    if not pods:
        return
    connection = http.client.HTTPConnection(f"{pods[0]['status']['podIP']}:8080", timeout=30)
    try:
        connection.request("POST", "/predict", json.dumps(body))
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        pass  # It died of it.
    finally:
        connection.close()


def evicted(stage: Stage) -> Seen:
    """A version that writes more than its volume may hold is put out by the kubelet every time.

    It gives such a pod no time to drain, so here too the load goes to the old version's own pod.
    """
    with stage.starts:
        stage.apply(Change())
        stage.serves(stage.good)
    (old,) = stage.pods()
    artifact = stage.another()
    rollout = {"minReadySeconds": 200, "progressDeadlineSeconds": 300}
    filled: set[str] = set()

    def fill(view: View) -> None:
        """Write into every new pod of the version until the rollout is given up."""
        for pod in [] if view.stalled else stage.pods(artifact.digest):
            uid = pod["metadata"]["uid"]
            volume = stage.testbed.cluster.empty_dir(uid, "tmp")
            if uid not in filled and pod["status"]["phase"] == "Running" and volume.exists():
                (volume / "fill").write_bytes(bytes(70 << 20))
                filled.add(uid)

    with stage.traffic(f"{old['status']['podIP']}:8080") as traffic:
        verdicts = stage.verdicts("Evicted")
        stage.apply(Change(artifact, spec={"rollout": rollout}))

        def named(view: View) -> bool:
            fill(view)
            return view.reason == "Evicted"

        stage.until("has a pod to fill", lambda view: fill(view) or bool(filled), 60)
        watch = Stopwatch()
        told = stage.until("named", named, 60)
        seconds = watch.seconds

        def given_up(view: View) -> bool:
            fill(view)
            return view.stalled == "RolledBack"

        view = stage.until("rolled back", given_up, 90)
        stage.more_answers(traffic)
    assert view.reason == "Evicted"
    assert stage.verdicts("Evicted") > verdicts
    tally = traffic.tally
    assert not tally.failures, str(tally)
    return Seen(
        "Evicted", essence(stage, told), seconds, tally.sent, tally.failed,
        "rolled back to the version before",
    )  # fmt: skip


def drained(stage: Stage) -> Seen:
    """`kubectl drain` of the only node: the budget lets one pod go, and the other serves on."""
    with stage.starts:
        stage.apply(Change(spec={"replicas": 2}))
        stage.serves(stage.good)
    cluster = stage.testbed.cluster
    stage.afterwards(cluster.kubectl, "uncordon", cluster.node_name)
    with stage.traffic() as traffic, ThreadPoolExecutor() as aside:
        stage.more_answers(traffic)
        watch = Stopwatch()
        drain = aside.submit(
            cluster.kubectl, "drain", cluster.node_name, "--timeout=20s", "--delete-emptydir-data",
            "--ignore-daemonsets", f"--pod-selector=slipway.dev/model={MODEL}", check=False,
        )  # fmt: skip
        told = stage.until("names it", lambda v: v.reason == "Unschedulable", 20)
        seconds = watch.seconds
        assert "with 1 of 2 pods" in told.message
        assert told.row == ("True", "-", "-", "True")
        refused = drain.result()
        assert refused.returncode != 0
        assert "would violate the pod's disruption budget" in refused.stderr
        assert stage.view().status["readyReplicas"] == 1
        watch = Stopwatch()
        cluster.kubectl("uncordon", cluster.node_name)
        stage.until("serves with both", lambda v: v.settled and v.status["readyReplicas"] == 2, 60)
        healed = (
            f"the budget kept the second pod; by itself, {watch.seconds:.0f} s after `uncordon`"
        )
    tally = traffic.tally
    assert not tally.failures, str(tally)
    return Seen("Unschedulable", essence(stage, told), seconds, tally.sent, tally.failed, healed)

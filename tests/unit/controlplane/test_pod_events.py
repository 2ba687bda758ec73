"""What pods' own status does not tell: volumes that cannot be mounted, and nodes that are lost."""

from __future__ import annotations

import copy

import pytest
from fake_cluster import pods, samples
from fake_cluster.world import World

from slipway_operator.reconcile import kinds
from slipway_operator.reconcile.kube import ApiError

MISSING = 'MountVolume.SetUp failed for volume "ca-bundle" : configmap "corp-ca" not found'
SUMMARY = "Unable to attach or mount volumes: unmounted volumes=[ca-bundle]: timed out"


def tells(world: World, message: str, reason: str = "FailedMount", name: str = "e1") -> None:
    """The kubelet tells something about each pod."""
    for pod in copy.deepcopy(world.api.of_kind(kinds.POD)):
        world.api.add(
            kinds.EVENT,
            {
                "metadata": {
                    "name": f"{pod['metadata']['name']}.{name}",
                    "namespace": samples.NAMESPACE,
                },
                "involvedObject": {"kind": "Pod", "uid": pod["metadata"]["uid"]},
                "reason": reason,
                "message": message,
                "lastTimestamp": world.api.now(),
            },
        )


@pytest.fixture
async def stuck() -> World:
    world = World()
    world.behaviours["a"] = pods.creating
    world.apply(digest=samples.A)
    await world.run()
    return world


class TestAVolumeThatCannotBeMounted:
    async def test_is_told_within_ten_seconds(self, stuck: World):
        assert stuck.condition("Ready")["reason"] == "Deploying"
        assert stuck.results[-1].requeue_after == 10
        assert stuck.api.event_reads == 0
        tells(stuck, MISSING)
        stuck.advance(10)
        await stuck.run()
        ready = stuck.condition("Ready")
        assert ready["reason"] == "VolumeMount"
        assert MISSING in ready["message"]
        assert stuck.conditions["Reconciling"] == "True"

    async def test_is_told_by_its_cause_and_not_by_the_summary(self, stuck: World):
        tells(stuck, SUMMARY, name="e0")
        tells(stuck, MISSING, name="e2")
        stuck.advance(10)
        await stuck.run()
        assert "corp-ca" in stuck.condition("Ready")["message"]

    async def test_costs_few_readings_and_no_steady_write(self, stuck: World):
        tells(stuck, MISSING)
        stuck.advance(10)
        await stuck.run()
        writes, reads = len(stuck.api.writes), stuck.api.event_reads
        assert reads == 1
        for _ in range(9):
            stuck.advance(1)
            await stuck.reconcile()
        assert stuck.api.event_reads == reads
        for _ in range(60):
            stuck.advance(10)
            tells(stuck, MISSING, name=f"again-{_}")
            await stuck.reconcile()
        assert stuck.api.event_reads - reads < 25
        assert len(stuck.api.writes) == writes

    async def test_is_no_longer_told_when_it_is_mended(self, stuck: World):
        tells(stuck, MISSING)
        stuck.advance(10)
        await stuck.run()
        stuck.behaviours["a"] = pods.ready
        await stuck.run()
        assert stuck.conditions["Ready"] == "True"
        assert stuck.results[-1].requeue_after is None

    async def test_fails_a_rollout_only_at_its_deadline(self):
        world = World()
        world.apply(digest=samples.A)
        await world.run()
        world.behaviours["b"] = pods.creating
        world.apply(digest=samples.B)
        await world.run()
        tells(world, MISSING)
        world.advance(10)
        await world.run()
        assert world.condition("Ready")["reason"] == "VolumeMount"
        assert world.status["serving"]["digest"] == samples.A
        world.pass_deadline()
        tells(world, MISSING, name="late")
        await world.run()
        assert world.status["lastFailure"]["reason"] == "VolumeMount"
        assert world.applied_digest == samples.A

    @pytest.mark.parametrize(
        ("reason", "age"), [("FailedMount", 400), ("Pulling", 0)], ids=["long ago", "another"]
    )
    async def test_is_not_read_into_other_events(self, stuck: World, reason: str, age: float):
        tells(stuck, MISSING, reason)
        stuck.advance(10 + age)
        await stuck.run()
        assert stuck.condition("Ready")["reason"] == "Deploying"

    async def test_is_not_looked_for_while_containers_start(self):
        world = World()
        world.behaviours["a"] = pods.fetching
        world.apply(digest=samples.A)
        await world.run()
        world.advance(60)
        await world.run()
        assert world.api.event_reads == 0

    async def test_stays_unknown_when_events_cannot_be_read(
        self, stuck: World, monkeypatch: pytest.MonkeyPatch
    ):
        async def refused(namespace: str, uid: str) -> list[dict]:
            raise ApiError(403, "Forbidden", "no")

        monkeypatch.setattr(stuck.api, "events_about", refused)
        stuck.advance(10)
        await stuck.run()
        assert stuck.condition("Ready")["reason"] == "Deploying"


class TestALostNode:
    async def test_is_told_while_the_other_pods_serve(self):
        world = World()
        world.apply(digest=samples.A, replicas=2)
        await world.run()
        # One of the two is on the lost node.
        lost = world.api.of_kind(kinds.POD)[0]["metadata"]["name"]
        world.api.update(
            kinds.POD,
            lost,
            samples.NAMESPACE,
            lambda obj: obj.update(status=pods.on_a_lost_node(""), spec={"nodeName": "node-7"}),
        )

        def one_less(obj: dict) -> None:
            obj["status"] |= {"readyReplicas": 1, "availableReplicas": 1}

        world.change(kinds.DEPLOYMENT, one_less)
        await world.reconcile()
        ready = world.condition("Ready")
        assert (ready["status"], ready["reason"]) == ("True", "NodeLost")
        assert "1 of 2 pods: the node 'node-7' no longer reports" in ready["message"]

    async def test_with_the_only_pod_leaves_nothing_available(self):
        world = World()
        world.apply(digest=samples.A)
        await world.run()
        world.behaviours["a"] = pods.on_a_lost_node
        await world.run()
        assert world.condition("Ready")["reason"] == "NodeLost"
        assert world.conditions["Available"] == "False"
        assert world.conditions["Reconciling"] == "True"

    async def test_in_a_rollout_is_named_and_fails_it_at_the_deadline(self):
        world = World()
        world.apply(digest=samples.A)
        await world.run()
        world.behaviours["b"] = pods.on_a_lost_node
        world.apply(digest=samples.B)
        await world.run()
        assert world.condition("Ready")["reason"] == "NodeLost"
        assert world.applied_digest == samples.B
        assert "lastFailure" not in world.status
        world.pass_deadline()
        await world.run()
        assert world.condition("Stalled")["reason"] == "RolledBack"
        assert world.status["lastFailure"]["reason"] == "NodeLost"
        assert world.applied_digest == samples.A

    async def test_is_not_mistaken_for_a_readiness_gate(self):
        gate = {"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady"}
        world = World()
        world.behaviours["a"] = lambda at: {**pods.ready(at), "conditions": [gate]}
        world.apply(digest=samples.A)
        await world.run()
        assert world.condition("Ready")["reason"] == "Deploying"

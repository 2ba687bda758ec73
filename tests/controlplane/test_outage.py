"""The API server goes away and comes back, and the world has changed meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from operator_kit.outage import Etcd, Outage
from operator_kit.space import MODEL, Space

from slipway_dev.cluster import Cluster

from .conftest import PATIENT, Launch, RecordFault


@pytest.fixture
def outage(cluster: Cluster) -> Iterator[Outage]:
    """The API server is there again afterwards, whatever happens."""
    made = Outage(cluster)
    yield made
    made.end()


@pytest.mark.fault("Operator", "API server restarted, children deleted behind its back")
def test_what_vanished_during_an_outage_comes_back(
    launch: Launch, space: Space, outage: Outage, cluster: Cluster, record_fault: RecordFault
) -> None:
    # Longer than the outage: the same process must live through it.
    operator = launch(leaderElection=PATIENT, resyncSeconds=3).until_leading()
    space.settle()
    space.settle("other", "o1")
    service = space.child("services")["metadata"]["uid"]
    deployment = space.deployment("other")["metadata"]["uid"]
    outage.begin()
    etcd = Etcd(cluster)
    etcd.delete(f"/registry/services/specs/{space.namespace}/{MODEL}")
    etcd.delete(f"/registry/deployments/{space.namespace}/other")
    outage.end()

    def back() -> None:
        assert space.child("services")["metadata"]["uid"] != service
        assert space.deployment("other")["metadata"]["uid"] != deployment

    space.eventually(back, within=30)
    for name in (MODEL, "other"):
        space.until("is served", lambda m: m.settled, name, within=30)
    assert operator.running(), "it lived through the outage"
    # And its watches are alive again: a change is seen at once.
    space.settle(version="v2")
    record_fault(
        reason="Serving",
        seen="the operator lives through it; no watch tells of the deletions, a list does",
        healed="by itself: the children are made again",
    )


@pytest.mark.fault("Operator", "API server away for longer than a Lease")
def test_an_operator_that_lost_the_api_server_for_long_ends_and_goes_on_when_started_again(
    launch: Launch, space: Space, outage: Outage, record_fault: RecordFault
) -> None:
    operator = launch().until_leading()
    space.settle()
    outage.begin()
    assert operator.exit_code() == 1
    # Its container is started again before the API server is there, and waits for it.
    operator.start()
    outage.end()
    operator.until_leading()
    space.settle(version="v2")
    record_fault(
        seen="the leader ends before its Lease can be another's",
        healed="by itself once its container was started again",
    )

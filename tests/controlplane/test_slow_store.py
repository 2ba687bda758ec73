"""etcd does not answer for a while: the operator waits, leads on, and goes on."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from operator_kit.space import Space

from slipway_dev import state as states
from slipway_dev.cluster import Cluster

from .conftest import PATIENT, Launch, RecordFault


@contextmanager
def paused_etcd(cluster: Cluster) -> Iterator[None]:
    state = states.load(cluster.name)
    assert state is not None
    pid = json.loads((state.folder / "pids/etcd.json").read_text())["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.fault("Operator", "etcd answers nothing for four seconds, twice")
def test_a_rollout_outlasts_a_store_that_pauses(
    launch: Launch, space: Space, cluster: Cluster, record_fault: RecordFault
) -> None:
    # Longer than the pause: with a shorter lease the operator rightly ends, see test_leadership.
    operator = launch(leaderElection=PATIENT).until_leading()
    space.settle(replicas=2)
    for version in ("v2", "v3"):
        space.apply(version=version, replicas=2)
        with paused_etcd(cluster):
            time.sleep(4)
        digest = space.digest(version)
        space.until(f"serves {version}", lambda m, d=digest: m.settled and m.serving == d)
    assert operator.running()
    assert operator.leads()
    assert len(space.revisions()) == 3
    assert "lastFailure" not in space.view().status
    record_fault(
        reason="RollingOut",
        seen="with a Lease longer than the pause the leader leads on; nothing is judged twice",
        healed="by itself: both rollouts completed",
    )

"""A minute of random life with faults; `make soak` does the same for an hour."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from operator_kit.api import Api
from operator_kit.fake_kubelet import FakeKubelet
from operator_kit.installation import NAMESPACE, RELEASE, Installation
from operator_kit.space import Space
from soak_kit.replicas import Replicas
from soak_kit.soak import Pace, Soak

from slipway_dev.cluster import Cluster

_SETTINGS = {"resyncSeconds": 20.0, "conflictBackoffSeconds": 10.0}
_PACE = Pace(
    seconds=45, models=20, action_every=0.4, strike_every=10, checkpoint_every=45,
    checkpoint_within=90,
)  # fmt: skip


def _ready(pod: dict[str, Any]) -> str:
    return next(c["status"] for c in pod["status"]["conditions"] if c["type"] == "Ready")


@pytest.fixture
def replicas(
    api: Api, installation: Installation, kubelet: FakeKubelet, tmp_path: Path
) -> Iterator[Replicas]:
    two = Replicas(installation, tmp_path, 2, _SETTINGS).start()
    yield two
    two.stop()
    api.delete("leases", NAMESPACE, RELEASE)


def test_the_played_kubelet_reports_anew_when_the_node_controller_overrules_it(
    api: Api, space: Space, replicas: Replicas
) -> None:
    """Late heartbeats on a busy machine must not look like pods that never recover."""
    space.settle(replicas=2)
    for pod in api.list("pods", space.namespace):
        overruled = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
        name = pod["metadata"]["name"]
        api.patch("pods", space.namespace, name, overruled, "strategic", "status")

    def ready_again() -> None:
        found = [_ready(pod) for pod in api.list("pods", space.namespace)]
        assert found == ["True", "True"]

    space.eventually(ready_again)


def test_after_random_life_with_faults_everything_is_where_its_spec_says(
    cluster: Cluster, space: Space, replicas: Replicas
) -> None:
    soak = Soak(cluster, space, replicas, _PACE, seed=7)
    outcome = soak.run()
    assert not outcome.violations, "\n\n".join(outcome.violations) + "\n\n" + replicas.tail()
    assert len(outcome.checkpoints) == 2, "one in the midst, one with everything mended"
    assert sum(soak.users.actions.values()) >= 50
    assert soak.saboteur.faults
    assert replicas.exits, "an operator had to be started again"

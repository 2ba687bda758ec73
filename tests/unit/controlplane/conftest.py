"""Every test has a cluster of its own, in memory."""

import pytest
from fake_cluster.world import World


@pytest.fixture
def world() -> World:
    return World()

"""A model leaves its framework and answers in the cluster as it did there.

`make bench-sources` does it for every kind of source; the tutorial's test does it for PyTorch.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from source_kit.journey import travel
from source_kit.kinds import all_kinds

from slipway_dev.testbed import Testbed


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["LightGBM behind a scaler"])
def test_a_source_answers_in_the_cluster_as_its_framework_does(
    testbed: Testbed, namespace: str, tmp_path: Path, name: str
) -> None:
    (kind,) = [kind for kind in all_kinds(tmp_path) if kind.name == name]

    arrived = travel(kind, "source", tmp_path / "journey", testbed, namespace)

    assert arrived.close, arrived

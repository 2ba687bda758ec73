"""No connection but to storage: no telemetry, no look-ups, no updates, no cloud's metadata."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import runtime_kit
from runtime_kit import network_watch


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `network_watch` has counted."""
    own = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    support = Path(runtime_kit.__path__[0]).parent
    environment = os.environ | {"PYTHONPATH": str(support)}
    # It is the runtime that has to switch telemetry off.
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    done = subprocess.run(
        [*own, sys.executable, network_watch.__file__, str(tmp_path_factory.mktemp("watched"))],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    # What leaves is counted at all.
    assert seen["control"] == [1, 1]
    return seen


def test_serving_opens_no_connection_and_sends_no_datagram(seen: dict[str, Any]) -> None:
    assert seen["served"] == [seen["clients"], 0]


def test_fetching_connects_to_the_storage_alone(seen: dict[str, Any]) -> None:
    assert seen["storage"] > 1
    assert seen["fetched"] == [seen["storage"], 0]

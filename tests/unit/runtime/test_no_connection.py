"""The server opens no connection of its own: no telemetry, no look-ups, no updates."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import runtime_kit
from runtime_kit import network_watch


def test_serving_opens_no_connection_and_sends_no_datagram(tmp_path: Path) -> None:
    own = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    support = Path(runtime_kit.__path__[0]).parent
    environment = os.environ | {"PYTHONPATH": str(support)}
    # It is the runtime that has to switch telemetry off.
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    done = subprocess.run(
        [*own, sys.executable, network_watch.__file__, str(tmp_path)],
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
    assert seen["all"] == [seen["clients"], 0]

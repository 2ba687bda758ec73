"""What the kstatus library says of an object: InProgress, Failed, Current, …"""

from __future__ import annotations

import json
import subprocess
from typing import Any

from slipway_dev import binaries


def kstatus(obj: dict[str, Any]) -> str:
    """The verdict of the library itself, as Flux, Argo-like tools and ``helm --wait`` use it."""
    done = subprocess.run(
        [binaries.path("kstatus")],
        input=json.dumps(obj),
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return json.loads(done.stdout)["status"]

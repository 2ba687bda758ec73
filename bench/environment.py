"""What figures were measured on, and where they are kept."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

from slipway_dev import binaries, paths


def environment() -> dict[str, Any]:
    """Date, commit, machine and its present load."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=paths.repository(),
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit,
        "cores": os.cpu_count(),
        "load_1m": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "kubernetes": binaries.KUBERNETES_VERSION,
    }


def on_what(results: dict[str, Any]) -> list[str]:
    """The same in words, for the head of a table."""
    where = results["environment"]
    return [
        f"{where['date']}, commit {where['commit']}: {where['cores']} cores shared with the whole",
        f"control plane and with this program (1-minute load {where['load_1m']} at the start),",
        f"Kubernetes {where['kubernetes']}, Python {where['python']}.",
    ]


def publish(folder: Path, name: str, results: dict[str, Any], text: str) -> None:
    """Keep results as ``name``.json, their table as ``name``.md, and show the table."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(results, indent=2) + "\n")
    (folder / f"{name}.md").write_text(text)
    print(text)

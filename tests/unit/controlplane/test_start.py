"""What keeps the process from starting is told in a sentence, with exit code 2."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from slipway_dev.network import free_port

POOLS = {"cpu": {"image": "runtime:1"}}


def run(folder: Path, port: int, environment: Mapping[str, str]) -> tuple[int, str]:
    """Start the operator; what it ended with, and said."""
    (folder / "config.yaml").write_text(yaml.safe_dump({"httpPort": port, "pools": POOLS}))
    ended = subprocess.run(
        [Path(sys.executable).with_name("slipway-operator"), "run", "--config", "config.yaml"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.returncode, ended.stderr


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = run(tmp_path, port, {})
    assert code == 2
    assert f"slipway-operator: port {port} cannot be listened on" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"KUBECONFIG": "missing"}, "Invalid kube-config"),
        ({"KUBECONFIG": "broken"}, "while parsing"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}, "Service"),
    ],
    ids=["no kubeconfig", "a broken kubeconfig", "a pod without a ServiceAccount"],
)
def test_an_api_server_that_nothing_tells_of_is_told(
    tmp_path: Path, environment: dict[str, str], reason: str
) -> None:
    (tmp_path / "broken").write_text("clusters: [")
    code, said = run(tmp_path, free_port(), environment)
    assert code == 2
    last = said.splitlines()[-1]
    assert last.startswith("slipway-operator: the API server's address is not known: ")
    assert reason in last
    assert "Traceback" not in said

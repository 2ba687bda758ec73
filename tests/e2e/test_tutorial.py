"""docs/tutorial.md is run as it stands, from PyTorch to a digest rollout in the cluster."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from cli_kit.run import PROGRAM, environment
from source_kit.frameworks import ROOT, program
from source_kit.journey import storage

from slipway_dev import binaries
from slipway_dev.testbed import Testbed

PAGE = (ROOT / "docs" / "tutorial.md").read_text()


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder for PATH. torch lives in one environment and the runtime in the other."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "slipway").write_text(
        f'#!/bin/sh\ncase "$1" in export) exec {program("slipway")} "$@" ;; esac\n'
        f'exec {PROGRAM} "$@"\n'
    )
    (folder / "slipway").chmod(0o755)
    return folder


@pytest.fixture
def kubeconfig(testbed: Testbed, namespace: str, tmp_path: Path) -> Path:
    """A login whose namespace is that of the test."""
    login = yaml.safe_load(testbed.cluster.kubeconfig.read_text())
    for context in login["contexts"]:
        context["context"]["namespace"] = namespace
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(login))
    path.chmod(0o600)
    return path


@pytest.mark.timeout(900)
def test_the_tutorial_ends_with_a_new_digest_in_the_cluster(
    testbed: Testbed, namespace: str, tmp_path: Path, tools: Path, kubeconfig: Path
) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    shutil.copy(ROOT / "examples" / "pytorch" / "fraud.py", folder)
    (settings,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (folder / "slipway.toml").write_text(
        settings.replace("https://s3.example.com", testbed.s3.endpoint)
    )
    commands = re.findall(r"^\$ (.*)$", PAGE, re.MULTILINE)
    before_the_new_digest = next(i for i, line in enumerate(commands) if "run=43" in line)
    commands.insert(before_the_new_digest, "cp fraud.yaml first.yaml")
    path = f"{tools}:{binaries.folder(['kubectl'])}:{os.environ['PATH']}"
    variables = storage(testbed) | {"PATH": path, "KUBECONFIG": str(kubeconfig)}
    del variables["AWS_ENDPOINT_URL"]  # slipway.toml has it.

    done = subprocess.run(
        ["bash", "-c", "\n".join(["set -e -m", *commands, "wait"])],
        cwd=folder,
        env=environment(variables),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    answers = re.findall(r"row +probabilities\n0 +(.*)\n1 +(.*)\n", done.stdout)
    assert len(answers) == 2
    assert answers[0] == answers[1], "here and in the cluster"
    before, after = (folder / "first.yaml").read_text(), (folder / "fraud.yaml").read_text()
    pushed = json.loads((folder / "pushed.json").read_text())
    model = yaml.safe_load(after)["spec"]["model"]
    assert (model["uri"], model["digest"]) == (pushed["uri"], pushed["digest"])
    changed = [line for line in after.splitlines() if line not in before.splitlines()]
    assert [line.split(":")[0].strip() for line in changed] == ["uri", "digest"]
    status = testbed.get_model(namespace, "fraud")["status"]
    assert status["serving"]["digest"] == pushed["digest"]
    assert [entry["outcome"] for entry in status["history"]] == ["Good", "Good"]

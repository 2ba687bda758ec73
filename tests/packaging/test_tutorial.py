"""docs/tutorial.md is run as it stands, against a real S3 server and the real runtime."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from cli_kit.run import PROGRAM, environment
from torch_environment import ROOT, program


@pytest.mark.timeout(1500)
def test_the_tutorial_ends_with_a_new_digest_in_the_manifest(
    folder: Path, storage: dict[str, str]
) -> None:
    page = (ROOT / "docs" / "tutorial.md").read_text()
    commands = re.findall(r"^\$ (.*)$", page, re.MULTILINE)
    assert len(commands) >= 10
    shutil.copy(ROOT / "examples" / "pytorch" / "fraud.py", folder)
    # torch lives in one environment and the runtime in the other; a user has both in one.
    tools = folder / "bin"
    tools.mkdir()
    (tools / "slipway").write_text(
        f'#!/bin/sh\ncase "$1" in export) exec {program("slipway")} "$@" ;; esac\n'
        f'exec {PROGRAM} "$@"\n'
    )
    (tools / "slipway").chmod(0o755)
    script = "\n".join(
        ["set -e -m", *commands[:-3], "cp fraud.yaml first.yaml", *commands[-3:], "wait"]
    )
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment(storage | {"PATH": f"{tools}:{os.environ['PATH']}"}),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^row +probabilities$", done.stdout, re.MULTILINE)
    before, after = (folder / "first.yaml").read_text(), (folder / "fraud.yaml").read_text()
    pushed = json.loads((folder / "pushed.json").read_text())
    model = yaml.safe_load(after)["spec"]["model"]
    assert (model["uri"], model["digest"]) == (pushed["uri"], pushed["digest"])
    changed = [line for line in after.splitlines() if line not in before.splitlines()]
    assert [line.split(":")[0].strip() for line in changed] == ["uri", "digest"]

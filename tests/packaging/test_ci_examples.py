"""The pipelines of examples/ci are run, step by step, against a real S3 server and Git."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_kit import models
from cli_kit.models import digest_of
from cli_kit.run import PROGRAM, environment

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = """\
# Who may change this: the fraud team.
apiVersion: slipway.dev/v1alpha1
kind: ModelDeployment
metadata: {name: fraud}
spec:
  model:
    uri: s3://models/fraud/old.onnx  # what is served
    digest: sha256:%s
""" % (64 * "0")  # fmt: skip
# Tools that the runner brings, or that speak to a server that is not here.
STUBS = ("pip", "apt-get", "gh")


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments],
        cwd=folder, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip


@pytest.fixture
def remote(folder: Path) -> Path:
    """A GitOps repository, as a server has it."""
    work, bare = folder / "first", folder / "gitops.git"
    work.mkdir()
    git(work, "init", "--quiet", "--initial-branch=main")
    (work / "fraud.yaml").write_text(MANIFEST)
    git(work, "add", ".")
    git(work, "commit", "--quiet", "--message", "fraud")
    git(folder, "clone", "--quiet", "--bare", str(work), str(bare))
    return bare


@pytest.fixture
def variables(folder: Path, storage: dict[str, str]) -> dict[str, str]:
    tools = folder / "tools"
    tools.mkdir()
    for name in STUBS:
        # `gh pr view` finds no pull request.
        (tools / name).write_text(
            f'#!/bin/sh\necho "$@" >> {folder}/{name}.log\ntest "$2" != view\n'
        )
        (tools / name).chmod(0o755)
    (tools / "slipway").symlink_to(PROGRAM)
    return environment(storage | {"PATH": f"{tools}:{os.environ['PATH']}"})


@pytest.fixture
def checkout(folder: Path) -> Path:
    """What the runner has checked out: the model's repository."""
    place = folder / "workspace"
    place.mkdir()
    (place / "model.onnx").write_bytes(models.linear())
    return place


def sh(command: str, folder: Path, variables: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", command],
        cwd=folder, env=variables, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def of_github(text: Any, values: dict[str, str]) -> str:
    """Fill in GitHub's expressions, and refuse one that is not known."""
    return re.sub(r"\$\{\{ *([\w.]+) *\}\}", lambda found: values[found[1]], str(text))


def require_only_the_digest_changed(text: str) -> None:
    digest = digest_of(models.linear())
    uri = f"s3://models/fraud/sha256/{digest.removeprefix('sha256:')}/model.onnx"
    assert text == MANIFEST.replace("s3://models/fraud/old.onnx", uri).replace(
        f"sha256:{64 * '0'}", digest
    )


def run_the_workflow(folder: Path, checkout: Path, remote: Path, variables: dict[str, str]) -> None:
    """As a runner does, which begins with an empty workspace each time."""
    workflow = yaml.safe_load((ROOT / "examples/ci/github-actions.yaml").read_text())
    (job,) = workflow["jobs"].values()
    values = {
        "secrets.AWS_ACCESS_KEY_ID": variables["AWS_ACCESS_KEY_ID"],
        "secrets.AWS_SECRET_ACCESS_KEY": variables["AWS_SECRET_ACCESS_KEY"],
        "secrets.GITOPS_TOKEN": "token",
        "github.sha": "c0ffee",
    }
    # What the job does not say is the runner's, and the region is that of the server here.
    variables = {name: of_github(value, values) for name, value in job["env"].items()} | variables
    variables["RUNNER_TEMP"] = str(folder)
    for step in job["steps"]:
        if step.get("uses", "").startswith("actions/checkout@"):
            if "repository" in step.get("with", {}):
                shutil.rmtree(checkout / step["with"]["path"], ignore_errors=True)
                git(checkout, "clone", "--quiet", str(remote), step["with"]["path"])
        elif "run" in step:
            own = {name: of_github(value, values) for name, value in step.get("env", {}).items()}
            place = checkout / step.get("working-directory", "")
            sh(of_github(step["run"], values), place, variables | own)


def test_the_github_workflow_offers_the_new_digest_as_a_pull_request(
    folder: Path, checkout: Path, remote: Path, variables: dict[str, str]
) -> None:
    run_the_workflow(folder, checkout, remote, variables)
    require_only_the_digest_changed(git(remote, "show", "fraud-c0ffee:fraud.yaml"))
    assert git(remote, "show", "main:fraud.yaml") == MANIFEST
    assert (folder / "gh.log").read_text() == "pr view fraud-c0ffee\npr create --fill\n"
    assert (folder / "pip.log").read_text().startswith("install slipway @ git+https://")


def test_the_github_workflow_can_be_run_again(
    folder: Path, checkout: Path, remote: Path, variables: dict[str, str]
) -> None:
    run_the_workflow(folder, checkout, remote, variables)
    run_the_workflow(folder, checkout, remote, variables)
    require_only_the_digest_changed(git(remote, "show", "fraud-c0ffee:fraud.yaml"))
    # Merged, there is nothing left to offer.
    git(remote, "update-ref", "refs/heads/main", "fraud-c0ffee")
    git(remote, "branch", "--delete", "--force", "fraud-c0ffee")
    run_the_workflow(folder, checkout, remote, variables)
    assert git(remote, "branch", "--format=%(refname:short)") == "main\n"


def test_the_gitlab_job_commits_the_new_digest(
    folder: Path, checkout: Path, remote: Path, variables: dict[str, str]
) -> None:
    (job,) = yaml.safe_load((ROOT / "examples/ci/gitlab-ci.yaml").read_text()).values()
    assert job["variables"]["GITOPS"].startswith("https://oauth2:${GITOPS_TOKEN}@")
    # The region is that of the server here.
    variables = job["variables"] | variables | {"GITOPS": str(remote), "GITOPS_TOKEN": "token"}
    # GitLab runs all lines of a job in one shell.
    script = "\n".join([*job["before_script"], *job["script"]])
    sh(script, checkout, variables)
    require_only_the_digest_changed(git(remote, "show", "main:fraud.yaml"))
    assert json.loads((checkout / "pushed.json").read_text())["digest"]

    # Run again, there is nothing to commit.
    shutil.rmtree(checkout / "gitops")
    commits = git(remote, "rev-list", "main")
    sh(script, checkout, variables)
    assert git(remote, "rev-list", "main") == commits

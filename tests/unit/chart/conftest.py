"""Renders the chart as Helm does."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway_dev import binaries

ROOT = Path(__file__).resolve().parents[3]
Manifests = list[dict[str, Any]]
Render = Callable[..., Manifests]


@pytest.fixture(scope="session")
def chart() -> Path:
    return ROOT / "charts/slipway"


@pytest.fixture(scope="session")
def helm() -> Path:
    return binaries.path("helm")


@pytest.fixture(scope="session")
def render_text(helm: Path, chart: Path) -> Callable[..., str]:
    """render_text(values={...}, ci="ha") -> what `helm template` prints."""

    def run(values: dict[str, Any] | None = None, ci: str | None = None) -> str:
        command: list[str | Path] = [helm, "template", "slipway", chart]
        command += ["--namespace", "slipway-system", "--values", "-"]
        if ci:
            command += ["--values", chart / "ci" / f"{ci}-values.yaml"]
        done = subprocess.run(
            command, input=yaml.safe_dump(values or {}), capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise ValueError(done.stderr)
        return done.stdout

    return run


@pytest.fixture(scope="session")
def render(render_text: Callable[..., str]) -> Render:
    """render(values={...}, ci="ha") -> the objects; ValueError with Helm's words if it refuses."""

    def run(values: dict[str, Any] | None = None, ci: str | None = None) -> Manifests:
        return [item for item in yaml.safe_load_all(render_text(values, ci)) if item]

    return run


@pytest.fixture(scope="session")
def pick() -> Callable[..., dict[str, Any]]:
    """pick(objects, "Role", name="x") -> the only object of that kind and name."""

    def run(objects: Manifests, kind: str, **metadata: str) -> dict[str, Any]:
        found = [
            item
            for item in objects
            if item["kind"] == kind and metadata.items() <= item["metadata"].items()
        ]
        assert len(found) == 1, f"{len(found)} objects of kind {kind} with {metadata}"
        return found[0]

    return run

"""The chart upgrades its CustomResourceDefinition, and its end ends no model."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from operator_kit.installation import NAMESPACE
from operator_kit.operator_process import OperatorProcess
from operator_kit.space import Space

from slipway_dev import binaries, paths
from slipway_dev.cluster import Cluster

RELEASE = "upgraded"
CRD = "modeldeployments.slipway.dev"


@pytest.fixture
def helm(cluster: Cluster) -> Iterator[list[str | Path]]:
    """The beginning of a helm command; at the end the definition is as it was."""
    yield [binaries.path("helm"), f"--kubeconfig={cluster.kubeconfig}", f"--namespace={NAMESPACE}"]
    cluster.kubectl("replace", "-f", paths.repository() / "crds")


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def with_another_field(chart: Path, folder: Path) -> Path:
    """The chart of a later version, whose definition has one field more."""
    later = folder / "later"
    shutil.copytree(chart, later)
    template = later / "templates/crd.yaml"
    lines = template.read_text().splitlines()
    at = next(n for n, line in enumerate(lines) if line.strip() == "suspend:")
    indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
    lines[at:at] = [f"{indent}fieldOfTomorrow:", f"{indent}  type: string"]
    template.write_text("\n".join(lines) + "\n")
    return later


def test_an_upgrade_brings_a_changed_definition_and_an_uninstall_leaves_it_and_the_models(
    operator: OperatorProcess,
    space: Space,
    helm: list[str | Path],
    cluster: Cluster,
    tmp_path: Path,
) -> None:
    chart = paths.repository() / "charts/slipway"
    # The operator of the release gets no pod: that of these tests is at work.
    values = ["--set=nodeSelector.none=such", "--set=rbac.aggregateToUserRoles=false"]
    run(*helm, "install", RELEASE, chart, *values, "--take-ownership", "--force-conflicts")
    space.settle(replicas=2)
    pods = {pod["metadata"]["uid"] for pod in space.pods()}

    later = with_another_field(chart, tmp_path)
    run(*helm, "upgrade", RELEASE, later, *values, "--force-conflicts")

    def accepted() -> None:
        manifest = space.manifest("tomorrow", fieldOfTomorrow="x")
        told = cluster.kubectl(
            "apply", "--dry-run=server", "-o", "yaml", "-f", "-", input=yaml.safe_dump(manifest)
        ).stdout
        assert "fieldOfTomorrow: x" in told

    space.eventually(accepted)
    # The operator of today goes on with what it knows of.
    space.settle(replicas=3)

    run(*helm, "uninstall", RELEASE)

    assert CRD in cluster.kubectl("get", "crd", CRD, "-o", "name").stdout
    assert space.view().settled
    assert pods < {pod["metadata"]["uid"] for pod in space.pods()}

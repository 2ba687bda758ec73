"""Checks the chart and the examples: values against their schema, helm lint, kubeconform, promtool.

Every file in charts/slipway/ci is one way to install the chart; each must lint, render, and give
objects that Kubernetes knows.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import kubernetes_schemas

from slipway_dev import binaries

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts/slipway"


def _run(*command: str | Path, stdin: str | None = None) -> str:
    """Run a command and return its output; on failure show both and end."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, input=stdin)
    if done.returncode != 0:
        print(done.stdout + done.stderr, file=sys.stderr)
        sys.exit(f"failed: {' '.join(str(part) for part in command)}")
    return done.stdout


def main() -> None:
    """Run all checks; the first failure ends it."""
    tools = binaries.ensure(["helm", "kubeconform", "promtool"])
    installs = sorted((CHART / "ci").glob("*-values.yaml"))
    schema = CHART / "values.schema.json"
    _run("check-jsonschema", "--check-metaschema", schema)
    _run("check-jsonschema", "--schemafile", schema, CHART / "values.yaml")
    alerts = CHART / "files/alerts.yaml"
    _run(tools["promtool"], "check", "rules", "--lint=all", "--lint-fatal", alerts)
    with tempfile.TemporaryDirectory() as folder:
        location = kubernetes_schemas.write(ROOT, Path(folder))
        conform = [tools["kubeconform"], "-strict", "-schema-location", location]
        # Kinds of the Prometheus operator are not Kubernetes' own.
        conform += ["-skip", "ServiceMonitor,PrometheusRule", "-summary"]
        for values in installs:
            _run(tools["helm"], "lint", "--strict", "--quiet", CHART, "--values", values)
            rendered = _run(
                tools["helm"], "template", "slipway", CHART,
                "--namespace", "slipway-system", "--values", values,
            )  # fmt: skip
            print(f"{values.name}: {_run(*conform, '-', stdin=rendered).strip()}")
        examples = sorted((ROOT / "examples").glob("*.yaml"))
        print(f"examples: {_run(*conform, *examples).strip()}")


if __name__ == "__main__":
    main()

"""The runbook has a place for each alert and reason, and names only metrics that exist."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from slipway_operator.api.reasons import Reason
from slipway_operator.app.metrics import Metrics
from slipway_runtime.metrics import Metrics as RuntimeMetrics

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/runbook.md").read_text()


def test_each_alert_has_a_section() -> None:
    groups = yaml.safe_load((ROOT / "charts/slipway/files/alerts.yaml").read_text())["groups"]
    alerts = [rule["alert"] for group in groups for rule in group["rules"]]
    assert re.findall("^### (.*)$", PAGE, re.MULTILINE) == alerts


def test_each_reason_for_which_a_rollout_fails_has_a_row() -> None:
    rows = " ".join(line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `"))
    missing = [reason for reason in Reason if f"`{reason}`" not in rows]
    assert not missing


def test_each_reason_of_the_readme_has_a_row() -> None:
    def reasons(page: str) -> set[str]:
        rows = (line.split("|")[1] for line in page.splitlines() if line.startswith("| `"))
        return set(re.findall("`([A-Z][A-Za-z]+)`", " ".join(rows)))

    table = (ROOT / "README.md").read_text().split("## How failure looks")[1].split("\n## ")[0]
    assert {"KindMissing", "RemovalHeld"} < reasons(table) <= reasons(PAGE)


def test_metrics_that_it_names_exist() -> None:
    named = set(re.findall(r"`((?:slipway|nv)_[a-z0-9_]+)`", PAGE))
    runtime = RuntimeMetrics("model", "version", "digest").render().decode()
    operator = {family.name for family in Metrics().registry.collect()}
    assert named
    assert {name for name in named if f"# TYPE {name} " not in runtime} <= operator

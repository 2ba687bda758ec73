"""docs/metrics.md: every metric of both programs, from their own pages, and every alert."""

import re
from collections.abc import Iterator
from pathlib import Path

import markdown_table
import yaml
from prometheus_client import generate_latest

from slipway_operator.app.metrics import Metrics as OperatorMetrics
from slipway_runtime.metrics import Metrics as RuntimeMetrics

_INTRO = """\
<!-- Generated from the metrics' own help by `make generate`. Do not edit. -->
# Metrics and alerts

A pod of a model has its page at `/metrics` of its HTTP port, for all its workers together; names
that begin with `nv_` are Triton's, with the same meaning, and there are `process_` metrics of the
Prometheus client library beside them. The operator's page is at `/metrics` of its port `http`. With
more than one operator pod each tells of all models: take the largest, not the sum.

"""
_ALERTS = """\

## Alerts

The chart makes a PrometheusRule of them (`metrics.prometheusRule.enabled`). Each leads to what
to do.

"""
_LINE = re.compile(r"^# (HELP|TYPE) (\S+) (.*)$", re.MULTILINE)


def render(root: Path) -> str:
    """Return the page's text."""
    runtime = RuntimeMetrics("model", "version", "digest").render().decode()
    operator = generate_latest(OperatorMetrics().registry).decode()
    rules = yaml.safe_load((root / "charts" / "slipway" / "files" / "alerts.yaml").read_text())
    return (
        _INTRO
        + "## A model's pod\n\n"
        + _table(runtime)
        + "\n## The operator\n\n"
        + _table(operator)
        + _ALERTS
        + markdown_table.table(
            ("Alert", "Severity", "When"),
            (
                (_linked(rule["alert"]), rule["labels"]["severity"], _when(rule))
                for group in rules["groups"]
                for rule in group["rules"]
            ),
        )
    )


def _linked(alert: str) -> str:
    return f"[`{alert}`](runbook.md#{alert.lower()})"


def _when(rule: dict[str, str]) -> str:
    lasts = f", for {rule['for']}" if "for" in rule else ""
    return f"`{rule['expr'].strip()}`{lasts}"


def _table(page: str) -> str:
    return markdown_table.table(("Metric", "Kind", "What"), _families(page))


def _families(page: str) -> Iterator[tuple[str, str, str]]:
    told: dict[str, str] = {}
    for what, name, text in _LINE.findall(page):
        if what == "HELP":
            told[name] = text
        elif not name.startswith("process_") and not name.endswith("_created"):
            yield f"`{name}`", text, told[name]

"""Alert rules and dashboards: promtool takes them, and they ask only for metrics that exist."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from fake_cluster import samples
from prometheus_client import Counter, Histogram
from prometheus_client.parser import text_string_to_metric_families

from slipway_dev import binaries
from slipway_operator.app.metrics import Metrics
from slipway_operator.build.pod import pod_template
from slipway_operator.build.podmonitor import pod_monitor
from slipway_runtime.metrics import Metrics as RuntimeMetrics

Promtool = Callable[..., str]

FILES = Path(__file__).resolve().parents[3] / "charts/slipway/files"
_SAMPLE = re.compile(r"\b((?:slipway|nv|process)_[a-z0-9_]+)\b")
_SELECTOR = re.compile(r"\b((?:slipway|nv)_[a-z0-9_]+)\{([^}]*)\}")


def alerts() -> list[dict]:
    groups = yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


PLAYED = Path(__file__).parent / "alerts_test.yaml"
BOARDS = ("dashboard.json", "model-dashboard.json")


def panels(*names: str) -> list[dict]:
    boards = [json.loads((FILES / name).read_text()) for name in names or BOARDS]
    return [panel for board in boards for panel in board["panels"]]


def expressions() -> dict[str, str]:
    found = {rule["alert"]: rule["expr"] for rule in alerts()}
    for panel in panels():
        for target in panel["targets"]:
            found[f"{panel['title']} {target['refId']}"] = target["expr"]
    return found


@pytest.fixture(scope="session")
def promtool() -> Promtool:
    """What Prometheus' own tool says; it has to be content."""
    program = binaries.path("promtool")

    def ask(*arguments: str | Path) -> str:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return ask


def test_prometheus_takes_the_rules_and_every_expression_of_the_dashboards(
    promtool: Promtool, tmp_path: Path
):
    boards = [
        {"record": f"panel:{number}", "expr": re.sub(r"\$__rate_interval", "5m", expression)}
        for number, expression in enumerate(expressions().values())
    ]
    file = tmp_path / "boards.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "boards", "rules": boards}]}))
    told = promtool("check", "rules", "--lint=all", "--lint-fatal", file, FILES / "alerts.yaml")
    assert f"{len(boards)} rules found" in told


@pytest.mark.parametrize("name", [rule["alert"] for rule in alerts()])
def test_an_alert_fires_when_it_should_and_is_silent_when_it_is_near_that(
    promtool: Promtool, name: str
):
    scenes = [
        check["exp_alerts"]
        for scene in yaml.safe_load(PLAYED.read_text())["tests"]
        for check in scene["alert_rule_test"]
        if check["alertname"] == name and re.match(f"{name} (fires|is silent) ", scene["name"])
    ]
    assert any(scenes)
    assert not all(scenes)
    promtool("test", "rules", f"--run=^{name} ", PLAYED)


def operator_samples() -> dict[str, set[str]]:
    """Every sample that the operator may show, with its labels."""
    metrics = Metrics()
    found: dict[str, set[str]] = {}
    for name, metric in vars(metrics).items():
        if name == "registry":
            continue
        labels = set(metric._labelnames)
        base = metric._name
        if isinstance(metric, Counter):
            found[f"{base}_total"] = labels
        elif isinstance(metric, Histogram):
            found |= {f"{base}_{end}": labels for end in ("count", "sum")}
            found[f"{base}_bucket"] = labels | {"le"}
        else:
            found[base] = labels
    for family in metrics.registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name, set(sample.labels))
    return found


def runtime_samples() -> dict[str, set[str]]:
    """Every metric family that a serving runtime shows, with the labels of its samples."""
    metrics = RuntimeMetrics("m", "1", "sha256:0")
    metrics.loaded("loading", 1.0)
    metrics.runs_on(["CPUExecutionProvider"], ["OpenVINOExecutionProvider"])
    metrics.responded(200)
    metrics.executed(1, 1.0)
    families = text_string_to_metric_families(metrics.render().decode())
    found: dict[str, set[str]] = {}
    for family in families:
        for sample in family.samples:
            name = re.sub(r"_(bucket|count|sum|created)$", "", sample.name)
            for key in (sample.name, name, family.name):
                found.setdefault(key, set()).update(sample.labels)
    return found


@pytest.mark.parametrize(("where", "expression"), expressions().items(), ids=expressions())
def test_every_metric_that_is_asked_for_exists(where: str, expression: str):
    known, runtime = operator_samples(), runtime_samples()
    names = set(_SAMPLE.findall(expression))
    assert names
    for name in names:
        base = re.sub(r"_(bucket|count|sum)$", "", name)
        assert name in known or name in runtime or base in runtime, name


@pytest.mark.parametrize(("where", "expression"), expressions().items(), ids=expressions())
def test_every_label_that_is_asked_for_exists(where: str, expression: str):
    known = runtime_samples() | operator_samples()
    for name, selector in _SELECTOR.findall(expression):
        if name in known:
            asked = set(re.findall(r"(\w+)\s*[=!]", selector))
            assert asked <= known[name] | {"namespace", "pod"}


@pytest.mark.parametrize(("where", "expression"), expressions().items(), ids=expressions())
def test_every_label_that_is_summed_by_exists(where: str, expression: str):
    known = runtime_samples() | operator_samples()
    there = {"namespace", "pod"}.union(*(known.get(n, set()) for n in _SAMPLE.findall(expression)))
    for grouping in re.findall(r"\bby \(([^)]*)\)", expression):
        assert {label.strip() for label in grouping.split(",")} <= there


def test_every_metric_of_the_operator_is_shown_somewhere():
    shown = " ".join(expressions().values())
    bases = {re.sub(r"_(bucket|count|sum|total|created)$", "", n) for n in operator_samples()}
    assert [base for base in bases if base not in shown] == []


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: dict):
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["description"]


def test_they_are_installed_when_asked_for_and_ask_for_the_leader_of_their_own_release(
    render, pick
):
    objects = render(ci="ha")
    rules = pick(objects, "PrometheusRule", name="slipway")
    leader = "slipway_operator_leader"
    text = (FILES / "alerts.yaml").read_text()
    of_this_release = text.replace(leader, f'{leader}{{lease="slipway-system/slipway"}}')
    assert rules["spec"] == yaml.safe_load(of_this_release)
    assert rules["metadata"]["labels"]["release"] == "prometheus"
    board = pick(objects, "ConfigMap", name="slipway-dashboard")
    assert json.loads(board["data"]["slipway.json"])["panels"] == panels("dashboard.json")
    model = json.loads(board["data"]["slipway-model.json"])
    assert model["panels"] == panels("model-dashboard.json")
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_every_metric_of_inference_is_shown_on_the_models_board():
    shown = json.dumps(panels("model-dashboard.json"))
    families = {re.sub(r"_(bucket|count|sum|total|created)$", "", n) for n in runtime_samples()}
    ours = {name for name in families if name.startswith(("nv_", "slipway_"))}
    # Time of whole requests is shown from the histogram.
    hidden = {"nv_inference_request_duration_us"}
    assert sorted(name for name in ours - hidden if name not in shown) == []


def test_they_are_not_installed_by_themselves(render):
    assert "PrometheusRule" not in {item["kind"] for item in render()}
    assert "slipway-dashboard" not in {item["metadata"]["name"] for item in render()}


# ---- Autoscaling by a metric of the runtime ----

ROOT = FILES.parents[2]
QUEUE = "nv_inference_pending_request_count"


def adapter_rules() -> list[dict]:
    """The rules for prometheus-adapter that docs/install.md gives."""
    guide = (ROOT / "docs/install.md").read_text()
    block = re.search(r"^    rules:\n(?:     .*\n)+", guide, re.MULTILINE)
    assert block is not None
    return yaml.safe_load(block[0])["rules"]["custom"]


def test_the_metric_that_pods_are_scaled_by_is_one_that_the_runtime_shows():
    labels = runtime_samples()[QUEUE]
    # Prometheus adds these two to what it reads of a pod; by any of its own they would be renamed.
    assert labels.isdisjoint({"namespace", "pod"})
    asked = yaml.safe_load((ROOT / "examples/autoscaling-hpa.yaml").read_text())
    assert [m["name"] for m in asked["spec"]["autoscaling"]["podMetrics"]] == [QUEUE]
    triggers = yaml.safe_load((ROOT / "examples/autoscaling-keda.yaml").read_text())
    (query,) = [
        trigger["metadata"]["query"]
        for trigger in triggers["spec"]["autoscaling"]["triggers"]
        if trigger["type"] == "prometheus"
    ]
    (name, selector) = _SELECTOR.findall(query)[0]
    assert name == QUEUE
    assert set(re.findall(r"(\w+)=", selector)) <= labels


def test_the_rule_of_the_guide_hands_that_metric_on_by_its_own_name(
    promtool: Promtool, tmp_path: Path
):
    (rule,) = adapter_rules()
    assert rule["seriesQuery"].partition("{")[0] == QUEUE
    assert "name" not in rule, "prometheus-adapter then keeps the name"
    resources = {label: at["resource"] for label, at in rule["resources"]["overrides"].items()}
    assert resources == {"namespace": "namespace", "pod": "pod"}
    # As the adapter fills it in for a pod of an autoscaler.
    query = rule["metricsQuery"]
    for placeholder, value in {
        "<<.Series>>": QUEUE,
        "<<.LabelMatchers>>": 'namespace="ml",pod=~"fraud-1|fraud-2"',
        "<<.GroupBy>>": "pod",
    }.items():
        assert placeholder in query
        query = query.replace(placeholder, value)
    file = tmp_path / "adapter.yaml"
    rules = [{"record": "series", "expr": rule["seriesQuery"]}, {"record": "pods", "expr": query}]
    file.write_text(yaml.safe_dump({"groups": [{"name": "adapter", "rules": rules}]}))
    promtool("check", "rules", file)


def pod_monitor_of_a_model() -> dict:
    settings = samples.settings(integrations={"podMonitor": {"enabled": True}})
    monitor = pod_monitor(samples.model(), settings)
    assert monitor is not None
    return monitor


def test_every_pod_has_the_port_that_the_queue_is_read_from():
    (endpoint,) = pod_monitor_of_a_model()["spec"]["podMetricsEndpoints"]
    settings = samples.settings()
    template = pod_template("fraud", samples.parsed_spec(), settings.pools["cpu"])
    (serve,) = template["spec"]["containers"]
    assert endpoint["port"] in {port["name"] for port in serve["ports"]}
    assert endpoint["path"] == "/metrics"

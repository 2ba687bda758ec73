"""Which ModelDeployments an operator serves, by their labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slipway_operator.api.selector import LabelSelector
from slipway_operator.api.settings import SettingsError, load_settings
from slipway_operator.reconcile import kinds
from slipway_operator.reconcile.store import Store


def selector(**parts: Any) -> LabelSelector:
    return LabelSelector.model_validate(parts)


def expression(operator: str, *values: str) -> LabelSelector:
    return selector(matchExpressions=[{"key": "team", "operator": operator, "values": values}])


@pytest.mark.parametrize(
    ("which", "labels", "matches"),
    [
        (selector(), {}, True),
        (selector(matchLabels={"team": "risk"}), {"team": "risk", "x": "y"}, True),
        (selector(matchLabels={"team": "risk"}), {"team": "other"}, False),
        (selector(matchLabels={"team": "risk"}), {}, False),
        (expression("In", "risk", "ads"), {"team": "ads"}, True),
        (expression("In", "risk"), {}, False),
        (expression("NotIn", "risk"), {"team": "risk"}, False),
        (expression("NotIn", "risk"), {}, True),
        (expression("Exists"), {"team": ""}, True),
        (expression("Exists"), {}, False),
        (expression("DoesNotExist"), {}, True),
        (expression("DoesNotExist"), {"team": "x"}, False),
    ],
)
def test_a_selector_means_what_kubernetes_means(which, labels, matches):
    assert which.matches(labels) is matches


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("{matchLabel: {a: b}}", "selector.matchLabel"),
        ("{matchExpressions: [{key: a, operator: In}]}", "In and NotIn need values"),
        ("{matchExpressions: [{key: a, operator: Exists, values: [b]}]}", "must not have any"),
        ("{matchExpressions: [{key: a, operator: Is, values: [b]}]}", "operator"),
    ],
)
def test_a_selector_that_cannot_be_used_is_refused_at_the_start(tmp_path: Path, written, told):
    config = tmp_path / "config.yaml"
    config.write_text(f"pools: {{cpu: {{image: x}}}}\nselector: {written}\n")
    with pytest.raises(SettingsError, match="selector") as refused:
        load_settings(config)
    assert told in str(refused.value)


def model(version: int, **labels: str) -> dict:
    return {
        "metadata": {
            "namespace": "n", "name": "m", "uid": "u", "resourceVersion": str(version),
            "labels": labels,
        },
        "spec": {},
    }  # fmt: skip


@pytest.fixture
def store() -> Store:
    which = selector(matchLabels={"team": "risk"})
    return Store(lambda obj: which.matches(obj["metadata"].get("labels") or {}))


def put(store: Store, obj: dict):
    return store.put(kinds.MODEL_DEPLOYMENT, obj)


def test_a_model_of_another_operator_is_not_kept(store: Store):
    assert put(store, model(1, team="ads")) is None
    assert store.models() == []


def test_a_model_whose_label_changes_is_let_go_and_may_come_back(store: Store):
    assert put(store, model(1, team="risk")) == ("n", "m")
    assert put(store, model(2, team="ads")) == ("n", "m")
    assert store.models() == []
    assert put(store, model(3, team="risk")) == ("n", "m")
    assert store.models() == [("n", "m")]


def test_an_event_that_comes_late_lets_no_model_go(store: Store):
    put(store, model(5, team="risk"))
    assert put(store, model(4, team="ads")) is None
    assert store.models() == [("n", "m")]

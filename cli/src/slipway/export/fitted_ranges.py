"""Where the features lay that an estimator was fitted to, as far as its steps tell."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from slipway.model.signature import Array

_DEVIATIONS = 2.0
_ROUNDING = 1e-6
_MARGIN = 0.1

Scaled = tuple[float, float, bool]
"""Lowest and highest value of a column, and whether all of them were whole numbers."""


def of_scaler(step: Any, count: int) -> list[Scaled]:
    """Return what a fitted scaler of ``count`` columns tells of each; nothing of other steps."""
    if hasattr(step, "data_min_"):
        low, high = np.asarray(step.data_min_), np.asarray(step.data_max_)
        whole = (low == np.round(low)) & (high == np.round(high))
    else:
        # Of a StandardScaler, or a RobustScaler.
        middle = getattr(step, "mean_", getattr(step, "center_", None))
        scale = getattr(step, "scale_", None)
        if middle is None or scale is None:
            return []
        low, high = middle - _DEVIATIONS * scale, middle + _DEVIATIONS * scale
        # Whole numbers have a whole sum.
        total: Array = middle * np.asarray(getattr(step, "n_samples_seen_", 1))
        whole = np.abs(total - np.round(total)) < _ROUNDING
    if len(low) != count:
        return []
    return list(zip(low.tolist(), high.tolist(), whole.tolist(), strict=True))


def of_matrix(estimator: Any) -> tuple[list[float], list[float]] | None:
    """Return the lowest and the highest value of each feature, None where nothing tells them.

    A scaler tells them, or the trees do by where they split.
    """
    count = int(estimator.n_features_in_)
    for step in _steps(estimator):
        if scaled := of_scaler(step, count):
            return [low for low, _, _ in scaled], [high for _, high, _ in scaled]
        # A branch for missing values alone is one below infinity.
        if splits := [split for split in _splits(step) if math.isfinite(split[1])]:
            return _bounds(splits, count)
        if not hasattr(step, "statistics_"):
            # Behind anything but an imputer the features may be others.
            return None
    return None


def _steps(estimator: Any) -> Iterator[Any]:
    """Yield the steps of an estimator in order, of pipelines and searches those within."""
    if hasattr(estimator, "best_estimator_"):
        yield from _steps(estimator.best_estimator_)
    elif hasattr(estimator, "steps"):
        for _, step in estimator.steps:
            if not isinstance(step, str):
                yield from _steps(step)
    else:
        yield estimator


def _bounds(splits: list[tuple[int, float]], count: int) -> tuple[list[float], list[float]]:
    low, high = [0.0] * count, [1.0] * count
    for feature in {feature for feature, _ in splits}:
        values = [value for at, value in splits if at == feature]
        margin = _MARGIN * (max(values) - min(values) or max(abs(values[0]), 1.0))
        low[feature], high[feature] = min(values) - margin, max(values) + margin
    return low, high


def _splits(estimator: Any) -> Iterator[tuple[int, float]]:
    """Yield where the trees of a fitted estimator split: the feature, and its value."""
    if hasattr(estimator, "tree_"):
        tree = estimator.tree_
        inner = tree.children_left != tree.children_right
        yield from zip(tree.feature[inner].tolist(), tree.threshold[inner].tolist(), strict=True)
    elif hasattr(estimator, "_predictors"):
        for tree in np.ravel(estimator._predictors):
            nodes = tree.nodes[tree.nodes["is_leaf"] == 0]
            yield from zip(
                nodes["feature_idx"].tolist(), nodes["num_threshold"].tolist(), strict=True
            )
    elif hasattr(estimator, "get_booster"):
        yield from _xgboost_splits(estimator.get_booster())
    elif hasattr(estimator, "booster_"):
        told = estimator.booster_.dump_model()["feature_infos"]
        for place, name in enumerate(estimator.booster_.feature_name()):
            if name in told:
                yield place, told[name]["min_value"]
                yield place, told[name]["max_value"]
    else:
        for inner in np.ravel(getattr(estimator, "estimators_", [])):
            yield from _splits(inner)


def _xgboost_splits(booster: Any) -> Iterator[tuple[int, float]]:
    model = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"]
    for tree in model.get("model", {}).get("trees", []):
        for feature, value, left in zip(
            tree["split_indices"], tree["split_conditions"], tree["left_children"], strict=True
        ):
            if left != -1:
                yield feature, value

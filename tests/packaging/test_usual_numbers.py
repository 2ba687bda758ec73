"""Estimators are compared where the numbers lay that they were fitted to, whole ones among them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_kit.run import Ended
from source_kit import with_frameworks

pytestmark = pytest.mark.timeout(1500)

ROWS = """
import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    GradientBoostingRegressor, HistGradientBoostingClassifier, RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.tree import DecisionTreeRegressor

random = np.random.default_rng(0)
frame = pd.DataFrame({
    "age": random.integers(9, 40, 1000) * 2,
    "income": random.integers(10, 60, 1000) * 1000,
    "children": random.integers(0, 5, 1000),
})
x = frame.to_numpy(float)
late = x @ [1000, 3, 0] + random.normal(0, 5000, 1000) > 150_000
"""


def export(folder: Path, model: str) -> Ended:
    (folder / "fitted.py").write_text(f"{ROWS}model = {model}\n")
    return with_frameworks.slipway("export", "fitted:model", "--json", cwd=folder)


@pytest.mark.parametrize(
    "scaler",
    [
        "StandardScaler()",
        "StandardScaler(with_mean=False)",
        "RobustScaler()",
        "MinMaxScaler(clip=True)",
        "MaxAbsScaler()",
    ],
)
def test_trees_behind_a_scaler_split_whole_numbers_as_they_do_in_scikit_learn(
    folder: Path, scaler: str
) -> None:
    """They split between 48 and 50, at 49: there the rounding of the scaler decides."""
    ended = export(
        folder, f"make_pipeline({scaler}, RandomForestRegressor(20)).fit(x, x[:, 0] % 3)"
    )
    assert ended.code == 0, ended.err + ended.out
    assert ended.json["validation"]["close"] is True
    cases = {item["case"] for item in ended.json["validation"]["differences"]}
    assert "batch 500, whole numbers, seed 0" in cases


@pytest.mark.parametrize("framed", [False, True], ids=["matrix", "data frame"])
def test_what_splits_whole_numbers_otherwise_is_not_written(folder: Path, *, framed: bool) -> None:
    """Its trees compare FP64, which the file's do not."""
    scaler, rows = "StandardScaler()", "x"
    if framed:
        scaler, rows = f"ColumnTransformer([('n', {scaler}, list(frame))])", "frame"
    trees = "HistGradientBoostingClassifier()"
    ended = export(folder, f"make_pipeline({scaler}, {trees}).fit({rows}, late)")
    assert ended.code == 4, ended.err + ended.out
    assert ended.json["model"] is None
    differ = {i["case"] for i in ended.json["validation"]["differences"] if not i["close"]}
    assert "batch 500, whole numbers, seed 0" in differ


def test_a_class_that_is_as_likely_as_the_one_of_the_original_is_told(folder: Path) -> None:
    """Of classes at random, half of a hundred trees often vote for either."""
    ended = export(folder, "RandomForestClassifier().fit(x, random.random(1000) < 0.5)")
    assert ended.code == 0, ended.err + ended.out
    assert any("two classes are as likely as each other" in w for w in ended.json["warnings"])


def test_clusters_of_fp64_are_compared_in_fp64(folder: Path) -> None:
    ended = export(folder, "make_pipeline(StandardScaler(), KMeans(3)).fit(x)")
    assert ended.code == 0, ended.err + ended.out


def test_ranges_are_read_off_scalers_and_off_trees(folder: Path) -> None:
    code = (
        f"{ROWS}"
        "import json, lightgbm, xgboost\n"
        "from slipway.export.fitted_ranges import of_matrix\n"
        "print(json.dumps([of_matrix(model.fit(x, late)) for model in (\n"
        "    make_pipeline(StandardScaler(), LinearRegression()), DecisionTreeRegressor(),\n"
        "    RandomForestClassifier(10), GradientBoostingRegressor(),\n"
        "    HistGradientBoostingClassifier(), lightgbm.LGBMClassifier(verbose=-1),\n"
        "    xgboost.XGBClassifier(), LinearRegression(),\n"
        ")]))\n"
    )
    *told, unknown = json.loads(with_frameworks.python("-c", code, cwd=folder))
    assert unknown is None
    assert len(told) == 7
    for low, high in told:
        assert 10 < low[0] < 40
        assert 60 < high[0] < 90
        # Trees split where classes meet, which the lowest and the highest income do not tell.
        assert 0 < low[1] < 35_000
        assert 40_000 < high[1] < 70_000

"""`slipway export` of pipelines that take the columns of a data frame by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_kit.run import Ended, slipway
from runtime_kit.process import Server
from source_kit import with_frameworks
from source_kit.frameworks import ROOT

pytestmark = pytest.mark.timeout(1500)

EXAMPLES = ROOT / "examples" / "scikit-learn"
FRAME = """
import numpy as np
import pandas as pd
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

random = np.random.default_rng(0)
frame = pd.DataFrame({
    "age": random.integers(18, 80, 300),
    "hours per week": random.normal(40, 8, 300),
    "job": random.choice(["clerk", "cook", "smith"], 300),
    "region": random.choice([10, 20, 30], 300),
    "note": random.choice(["pays late", "Pays in time.", "new here"], 300),
    "unused": 1,
})
late = (frame["note"] == "pays late") ^ (frame["job"] == "cook") ^ (frame["region"] == 20)

LINEAR = LogisticRegression(max_iter=500)
C = {"logisticregression__C": [1, 2]}
WORDS = ("words", TfidfVectorizer(), "note")
DROPPED = ("dropped", "drop", ["note", "job", "unused"])
SELECTED = ("selected", StandardScaler(), make_column_selector("^age"))
INFREQUENT = OneHotEncoder(min_frequency=5, handle_unknown="infrequent_if_exist")

def columns(encoder=None):
    return ColumnTransformer([
        ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["age", "hours per week"]),
        ("categories", encoder or OneHotEncoder(), ["job", "region"]),
    ])

def fitted(*steps):
    return make_pipeline(*steps).fit(frame, late)
"""
BY_DATATYPE = {"age": "FP32", "hours per week": "FP32", "job": "BYTES", "region": "FP32"}


def export(*arguments: object, cwd: Path) -> Ended:
    return with_frameworks.slipway("export", *arguments, cwd=cwd)


def write(folder: Path, model: str) -> None:
    (folder / "fitted.py").write_text(f"{FRAME}model = {model}\n")


def exported(folder: Path, model: str, *arguments: object) -> dict[str, Any]:
    """Export a model of the frame and return what `inspect` says of the file."""
    write(folder, model)
    ended = export("fitted:model", "--json", *arguments, cwd=folder)
    assert ended.code == 0, ended.err + ended.out
    assert ended.json["validation"]["close"] is True
    return slipway("inspect", "model.onnx", "--json").json | {"warnings": ended.json["warnings"]}


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        ("fitted(columns(), LogisticRegression(max_iter=500))", BY_DATATYPE),
        ("fitted(columns(OrdinalEncoder()), LINEAR)", BY_DATATYPE),
        (
            "GridSearchCV(make_pipeline(columns(), LogisticRegression()), C).fit(frame, late)",
            BY_DATATYPE,
        ),
        (
            "fitted(ColumnTransformer([WORDS, ('n', StandardScaler(), ['age'])]), LINEAR)",
            {"age": "FP32", "note": "BYTES"},
        ),
        (
            "fitted(ColumnTransformer([DROPPED, SELECTED], remainder='passthrough'), LINEAR)",
            {"age": "FP32", "hours per week": "FP32", "region": "FP32"},
        ),
    ],
    ids=["one-hot", "ordinal", "a search", "text", "some dropped"],
)
def test_each_column_that_is_used_becomes_an_input_by_its_name(
    folder: Path, model: str, inputs: dict[str, str]
) -> None:
    facts = exported(folder, model)
    assert {i["name"]: i["datatype"] for i in facts["inputs"]} == inputs
    assert all(i["shape"] == ["batch", 1] for i in facts["inputs"])
    assert facts["batchable"] is True
    assert facts["warnings"] == []
    packed = slipway("pack", "model.onnx", "--name", "late")
    assert packed.code == 0, packed.err


def test_categories_go_into_the_file_and_others_only_where_the_original_takes_them(
    folder: Path,
) -> None:
    strict = exported(folder, "fitted(columns(), LogisticRegression())")
    typical = json.loads(strict["metadata"]["typical"])
    assert (typical["job"], typical["region"]) == (["clerk", "cook", "smith"], [10, 20, 30])
    encoder = "OneHotEncoder(handle_unknown='ignore')"
    lenient = exported(folder, f"fitted(columns({encoder}), LogisticRegression())")
    typical = json.loads(lenient["metadata"]["typical"])
    assert typical["job"] == ["clerk", "cook", "smith", "slipway-unknown"]
    assert typical["region"] == [10, 20, 30, 31]
    assert typical["age"][0] in range(45, 55), "what a scaler has seen is an example too"


def test_the_example_is_served_and_records_are_answered_as_the_pipeline_predicts(
    folder: Path,
) -> None:
    ranges = ("--range", "age=18:80", "--range", "income=10000:90000")
    ended = export("loans:pipeline", *ranges, "--out", folder / "model.onnx", cwd=EXAMPLES)
    assert ended.code == 0, ended.err + ended.out
    code = "import loans; rows = loans.frame.dropna()[:20]; print(rows.to_json(orient='records'))\n"
    code += "print(loans.pipeline.predict_proba(rows).tolist())"
    told = with_frameworks.python("-c", code, cwd=EXAMPLES)
    records, expected = map(json.loads, told.splitlines())
    with Server(folder, (folder / "model.onnx").read_bytes()) as server:
        server.start().wait_until_ready()
        reply = server.post("/predict", {"records": records})
        assert reply.status == 200, reply.body
        np.testing.assert_allclose(reply.json["probabilities"], expected, atol=1e-5)
        gap = server.post("/predict", {"records": [records[0] | {"age": None}]})
        assert gap.status == 200, gap.body
        backwards = [dict(reversed(record.items())) for record in records]
        assert server.post("/predict", {"records": backwards}).json == reply.json


def test_samples_may_be_plain_columns_and_datatypes_may_be_told(folder: Path) -> None:
    np.savez(
        folder / "rows.npz",
        **{"age": np.array([20.5, 61.0]), "hours per week": np.array([38.0, 40.0])},
        job=np.array(["cook", "smith"]),
        region=np.array([10.0, 30.0]),
    )
    wider = ("--input", "age=FP64[batch,1]", "--input", "hours per week=FP64[batch,1]")
    # ONNX Runtime fills no gaps in FP64.
    scaled = "('n', StandardScaler(), ['age', 'hours per week'])"
    encoded = "('c', OneHotEncoder(), ['job', 'region'])"
    facts = exported(
        folder,
        f"fitted(ColumnTransformer([{scaled}, {encoded}]), LogisticRegression())",
        *("--samples", "rows.npz", "--no-random", *wider),
    )
    assert {i["name"]: i["datatype"] for i in facts["inputs"]} == BY_DATATYPE | {
        "age": "FP64",
        "hours per week": "FP64",
    }


def test_text_that_the_original_fills_in_is_told(folder: Path) -> None:
    encoder = "make_pipeline(SimpleImputer(strategy='most_frequent'), OneHotEncoder())"
    model = f"fitted(ColumnTransformer([('c', {encoder}, ['job'])]), LogisticRegression())"
    (warning,) = exported(folder, model)["warnings"]
    assert "the original fills in missing text" in warning


def test_numbers_that_the_original_fills_in_are_compared(folder: Path) -> None:
    """Trees take gaps, and the converted ones answer them otherwise."""
    passed = "ColumnTransformer([('n', 'passthrough', ['age', 'hours per week'])])"
    gaps = "frame.loc[::7, 'age'] = np.nan\n"
    model = f"model = fitted({passed}, RandomForestClassifier(5))\n"
    (folder / "fitted.py").write_text(FRAME + gaps + model)
    ended = export("fitted:model", "--json", cwd=folder)
    assert ended.code == 0, ended.err + ended.out
    assert ["missing values" in text for text in ended.json["warnings"]] == [True]


@pytest.mark.parametrize(
    ("model", "arguments", "code", "told"),
    [
        (
            "fitted(columns(), LogisticRegression())",
            ["--input", "x=FP32[batch,4]"],
            2,
            "'x' is none of those that it uses: age, hours per week, job, region",
        ),
        (
            "fitted(columns(), LogisticRegression())",
            ["--input", "age=FP32[batch,4]"],
            2,
            "of the shape [batch,1], and not FP32[batch, 4]",
        ),
        (
            "CalibratedClassifierCV(make_pipeline(columns(), LINEAR)).fit(frame, late)",
            [],
            10,
            "put it into the pipeline, behind the ColumnTransformer",
        ),
        (
            "fitted(columns(INFREQUENT), LogisticRegression())",
            [],
            10,
            'OneHotEncoder(handle_unknown="ignore")',
        ),
        (
            "make_pipeline(OneHotEncoder(), LogisticRegression()).fit(frame[['job']], late)",
            [],
            10,
            "choose the columns by name in a ColumnTransformer",
        ),
    ],
    ids=["no column", "no single column", "around the pipeline", "infrequent ones", "no columns"],
)
def test_what_cannot_be_exported_is_told_with_a_remedy(
    folder: Path, model: str, arguments: list[str], code: int, told: str
) -> None:
    write(folder, model)
    ended = export("fitted:model", *arguments, cwd=folder)
    assert ended.code == code, ended.err + ended.out
    assert told in ended.err
    assert not (folder / "model.onnx").exists()


def test_a_model_of_mlflow_takes_its_text_columns_from_the_signature(folder: Path) -> None:
    write(folder, "fitted(columns(), LogisticRegression())")
    code = "import sys, mlflow.sklearn, fitted as f; from mlflow.models import infer_signature\n"
    code += "mlflow.sklearn.save_model(f.model, 'logged', signature=infer_signature(f.frame),"
    code += " serialization_format='cloudpickle', pip_requirements=['numpy'])"
    with_frameworks.python("-c", code, cwd=folder)
    ended = export("logged", "--trust-pickle", "--env", "current", "--json", cwd=folder)
    assert ended.code == 0, ended.err + ended.out
    inputs = slipway("inspect", "model.onnx", "--json").json["inputs"]
    assert {i["name"]: i["datatype"] for i in inputs} == BY_DATATYPE

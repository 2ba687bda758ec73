"""`slipway export` of pipelines that take text: words of all languages, cut as by scikit-learn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_kit.run import Ended, slipway
from runtime_kit.process import Server
from source_kit import with_frameworks

pytestmark = pytest.mark.timeout(1500)

NOTES = """
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

notes = ["größer als früher", "Zahlt spät, oft!", "été à paris", "pays x late", "мир и труд", "neu"]
late = [0, 1, 0, 1, 0, 1]
C = {"logisticregression__C": [1, 2]}
asked = [
    "GRÖßER, früher?", "zahlt SPÄT", "Été à Paris", "ПРИВЕТ мир", "pays late", "pays y late",
    "naïve_1 größe", "日本語", "", "x",
]

def pipeline(vectorizer):
    return make_pipeline(vectorizer, LogisticRegression()).fit(notes * 5, late * 5)
"""


def export(folder: Path, model: str, *arguments: str) -> Ended:
    (folder / "fitted.py").write_text(f"{NOTES}model = {model}\n")
    return with_frameworks.slipway("export", "fitted:model", "--json", *arguments, cwd=folder)


@pytest.mark.parametrize(
    "model",
    [
        "pipeline(TfidfVectorizer())",
        "pipeline(CountVectorizer(ngram_range=(1, 2), stop_words=['als']))",
        "pipeline(TfidfVectorizer(lowercase=False))",
        "pipeline(CountVectorizer(token_pattern='[a-zäöüß]+'))",
        "GridSearchCV(pipeline(TfidfVectorizer()), C, cv=2).fit(notes * 5, late * 5)",
    ],
    ids=["words", "pairs of words", "as written", "a pattern", "a search"],
)
def test_text_is_served_as_scikit_learn_reads_it(folder: Path, model: str) -> None:
    ended = export(folder, model)
    assert ended.code == 0, ended.err + ended.out
    inputs = slipway("inspect", "model.onnx", "--json").json["inputs"]
    assert [(i["name"], i["datatype"], i["shape"]) for i in inputs] == [
        ("text", "BYTES", ["batch", 1])
    ]
    code = "import json, fitted as f; print(json.dumps([f.asked, f.model.predict_proba(f.asked)"
    code += ".tolist()]))"
    asked, expected = json.loads(with_frameworks.python("-c", code, cwd=folder))
    with Server(folder, (folder / "model.onnx").read_bytes()) as server:
        server.start().wait_until_ready()
        reply = server.post("/predict", {"records": [{"text": text} for text in asked]})
        assert reply.status == 200, reply.body
        np.testing.assert_allclose(reply.json["probabilities"], expected, atol=1e-5)
        alone = server.post("/predict", {"text": asked[0]})
        assert alone.status == 200, alone.body
        np.testing.assert_allclose(alone.json["probabilities"], expected[0], atol=1e-5)


def test_the_input_of_text_may_have_another_name_and_nothing_else(folder: Path) -> None:
    ended = export(folder, "pipeline(TfidfVectorizer())", "--input", "note=BYTES[batch,1]")
    assert ended.code == 0, ended.err + ended.out
    assert slipway("inspect", "model.onnx", "--json").json["inputs"][0]["name"] == "note"
    refused = export(folder, "pipeline(TfidfVectorizer())", "--input", "note=FP32[batch,1]")
    assert refused.code == 2
    assert "a pipeline of text takes one input of BYTES" in refused.json["error"]["message"]

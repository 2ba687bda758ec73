"""Typical values that a model lists: by them it is warmed up, tried and shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from runtime_kit import onnx_models
from runtime_kit.process import Server

from slipway_runtime.errors import WarmupFailed
from slipway_runtime.inference.model import Model
from slipway_runtime.inference.trial import limits_for

LoadModel = Callable[[bytes], Model]

JOBS = json.dumps({"job": ["cook", "clerk"]})


def test_a_model_that_knows_only_its_categories_is_warmed_up_with_them(
    load_model: LoadModel,
) -> None:
    feeds = load_model(onnx_models.categories(JOBS)).warm_up()
    assert {name: array.tolist() for name, array in feeds.items()} == {
        "job": [["cook"]],
        "age": [[0.0]],
    }
    with pytest.raises(WarmupFailed, match=r"a first run on zeros .* Unknown Category"):
        load_model(onnx_models.categories()).warm_up()


def test_its_requests_share_runs(load_model: LoadModel) -> None:
    model = load_model(onnx_models.categories(JOBS))
    model.warm_up()
    assert limits_for(model, 8, 0).max_rows == 8


@pytest.mark.parametrize(
    ("typical", "told"),
    [
        ("[", "Expecting value"),
        ("[1]", "it is no object by input name"),
        ('{"work": ["cook"]}', "there is no input 'work'"),
        ('{"job": []}', "what is given for 'job' is no list of values"),
        ('{"job": [1]}', "what is given for 'job' are no values of BYTES"),
        ('{"age": ["old"]}', "what is given for 'age' are no values of FP32"),
    ],
)
def test_a_property_that_does_not_fit_is_left_aside(
    load_model: LoadModel, caplog: pytest.LogCaptureFixture, typical: str, told: str
) -> None:
    assert load_model(onnx_models.categories(typical)).typical == {}
    assert "the metadata property typical is left aside" in caplog.text
    assert told in caplog.text


def test_the_examples_of_the_document_are_answered_and_other_categories_are_the_clients_fault(
    tmp_path: Path,
) -> None:
    with Server(tmp_path, onnx_models.categories(JOBS)) as server:
        server.start().wait_until_ready()
        paths = server.get("/openapi.json").json["paths"]
        media = paths["/predict"]["post"]["requestBody"]["content"]["application/json"]
        assert media["example"] == {"job": [["cook"]], "age": [[0.0]]}
        reply = server.post("/predict", media["example"])
        assert (reply.status, reply.json["is"]) == (200, [[[0.0, 1.0]]])
        refused = server.post("/predict", {"job": [["pilot"]], "age": [[1.0]]})
        assert refused.status == 400
        assert "Unknown Category" in refused.json["error"]

"""The first run of a model: what it is given where nobody says what the model takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from runtime_kit import onnx_models
from runtime_kit.process import Server

from slipway_runtime.errors import WarmupFailed
from slipway_runtime.inference.model import Model
from slipway_runtime.inference.trial import limits_for

LoadModel = Callable[[bytes], Model]


def test_a_model_of_images_that_does_not_run_on_one_pixel_gets_more(load_model: LoadModel) -> None:
    model = load_model(onnx_models.needs_pixels(3))
    feeds = model.warm_up()
    assert feeds["x"].shape == (1, 1, 32, 32)
    assert limits_for(model, 8, 0).max_rows == 8
    assert load_model(onnx_models.needs_pixels(33)).warm_up()["x"].shape == (1, 1, 224, 224)


def test_what_runs_on_sizes_of_one_gets_no_more(load_model: LoadModel) -> None:
    assert load_model(onnx_models.needs_pixels(1)).warm_up()["x"].shape == (1, 1, 1, 1)


def test_a_model_that_runs_on_nothing_made_up_is_refused_with_a_remedy(
    load_model: LoadModel,
) -> None:
    with pytest.raises(WarmupFailed, match=r"\[1, 1, 1, 1\].* fails: .*a golden sample.*typical"):
        load_model(onnx_models.needs_pixels(225)).warm_up()


def test_examples_have_sizes_on_which_the_model_runs(tmp_path: Path) -> None:
    with Server(tmp_path, onnx_models.needs_pixels(3)) as server:
        server.start().wait_until_ready()
        paths = server.get("/openapi.json").json["paths"]
        for path in ("/predict", "/v2/models/m/infer", "/v1/models/m:predict", "/invocations"):
            media = paths[path]["post"]["requestBody"]["content"]["application/json"]
            reply = server.post(path, media["example"])
            assert reply.status == 200, reply.body

"""The trial at load: which models batch, and up to how many rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from runtime_kit import onnx_models

from slipway_runtime.inference.batching import key_of
from slipway_runtime.inference.model import Model
from slipway_runtime.inference.timing import Predictor
from slipway_runtime.inference.trial import AUTO_ROWS, limits_for

LoadModel = Callable[[bytes], Model]


@pytest.mark.parametrize(
    ("make", "rows"),
    [
        (onnx_models.linear, 8),
        (onnx_models.two_inputs, 8),
        (lambda: onnx_models.identity("BYTES"), 8),
        (lambda: onnx_models.identity("BF16"), 8),
        (onnx_models.mean_over_rows, 1),
        (lambda: onnx_models.identity(shape=[1, 2]), 1),
        (lambda: onnx_models.identity(shape=None), 1),
        (onnx_models.busy, 1),
    ],
)
def test_a_model_batches_only_where_rows_do_not_depend_on_their_neighbours(
    load_model: LoadModel, make: Callable[[], bytes], rows: int
) -> None:
    assert limits_for(load_model(make()), 8, 0).max_rows == rows


def test_by_default_a_model_batches_where_that_gains(load_model: LoadModel) -> None:
    assert limits_for(load_model(onnx_models.linear()), 0, 0).max_rows == AUTO_ROWS
    assert limits_for(load_model(onnx_models.linear()), 1, 0).max_rows == 1


def test_by_default_large_rows_are_not_batched(load_model: LoadModel) -> None:
    model = load_model(onnx_models.identity(shape=["n", 1024, 1024]))
    assert limits_for(model, 0, 0).max_rows == 1
    assert limits_for(model, 2, 0).max_rows == 2


def test_by_default_a_slow_model_is_not_batched(load_model: LoadModel) -> None:
    model: Any = load_model(onnx_models.linear())
    plain = model.infer

    def slow(*arguments: Any) -> Any:
        time.sleep(0.12)
        return plain(*arguments)

    model.infer = slow
    assert limits_for(model, 0, 0).max_rows == 1
    assert limits_for(model, 8, 0).max_rows == 8


def test_the_runs_of_a_trial_are_observed(load_model: LoadModel) -> None:
    model = load_model(onnx_models.linear())
    predictor = Predictor()
    limits_for(model, 0, 0, predictor=predictor)
    key, _ = key_of(model.signature, {"x": np.zeros((1, 4), dtype=np.float32)}, None)
    for rows in (1, 8):
        assert (key, rows.bit_length()) in predictor._seen

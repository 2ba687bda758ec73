"""The trial at load: which models batch, and up to how many rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runtime_kit import onnx_models
from runtime_kit.process import Server

from slipway_runtime.errors import BadRequest
from slipway_runtime.inference import trial
from slipway_runtime.inference.batching import key_of
from slipway_runtime.inference.model import Model
from slipway_runtime.inference.operators import mixing_rows
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
        (onnx_models.clips_by_the_largest, 1),
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


def test_golden_rows_that_are_equal_show_nothing_so_others_are_tried(
    load_model: LoadModel,
) -> None:
    """Beside rows like itself each has the mean that it has alone."""
    row = {"x": np.array([[1, 2]], dtype=np.float32)}
    for typical in ([row, row], [row] * 8):
        model = load_model(onnx_models.mean_over_rows())
        assert limits_for(model, 8, 0, typical=typical).max_rows == 1


def test_rows_that_all_have_the_same_outputs_show_nothing(
    load_model: LoadModel, caplog: pytest.LogCaptureFixture
) -> None:
    model: Any = load_model(onnx_models.linear())
    plain = model.infer
    model.infer = lambda *more: {name: array * 0 for name, array in plain(*more).items()}
    assert limits_for(model, 8, 0).max_rows == 1
    assert "all trial rows have the same outputs" in caplog.text


def test_a_model_that_scales_by_all_rows_of_a_run_is_not_batched(tmp_path: Path) -> None:
    """Only its labels can be seen, which rows of one magnitude seldom change for each other."""
    extra = {"SLIPWAY_MAX_BATCH_SIZE": "8"}
    with Server(tmp_path, onnx_models.quantizes_dynamically(), extra=extra) as server:
        server.start().wait_until_ready()
        assert server.get("/v2/models/m/config").json["max_batch_size"] == 0
        assert "DynamicQuantizeLinear computes a row otherwise beside other rows" in server.log


@pytest.mark.parametrize("most", ["0", "8"])
def test_a_model_whose_values_decide_how_many_rows_come_is_not_batched(
    tmp_path: Path, most: str
) -> None:
    """Where there happen to be as many as went in, each would be taken for somebody's."""
    extra = {"SLIPWAY_MAX_BATCH_SIZE": most}
    with Server(tmp_path, onnx_models.picks_what_is_large(), extra=extra) as server:
        server.start().wait_until_ready()
        assert server.get("/v2/models/m/config").json["max_batch_size"] == 0
        assert "Compress lets values decide how many rows come" in server.log


@pytest.mark.parametrize("operator", ["StringSplit", "Tokenizer"])
def test_a_model_that_makes_rows_as_wide_as_the_widest_of_a_run_is_not_batched(
    load_model: LoadModel, operator: str
) -> None:
    assert limits_for(load_model(onnx_models.splits_text(operator)), 8, 0).max_rows == 1


def test_text_that_is_split_is_not_batched_whatever_the_trial_could_show(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_models.splits_text())
    assert "StringSplit makes a row as wide as the widest" in (mixing_rows(path) or "")


def test_a_model_that_cannot_run_on_large_numbers_is_tried_on_ordinary_ones(
    load_model: LoadModel,
) -> None:
    model: Any = load_model(onnx_models.linear())
    plain = model.infer

    def infer(inputs: Any, *more: Any) -> Any:
        if np.abs(inputs["x"]).max() > 1:
            raise BadRequest("out of range")
        return plain(inputs, *more)

    model.infer = infer
    assert limits_for(model, 8, 0).max_rows == 8


# ---- the largest batch ----


def sizes(model: Any) -> list[int]:
    """The rows of each run, as they happen."""
    plain, rows = model.infer, list[int]()

    def infer(inputs: Any, *more: Any) -> Any:
        rows.append(len(inputs["x"]))
        return plain(inputs, *more)

    model.infer = infer
    return rows


@pytest.mark.parametrize(
    ("max_rows", "hint", "rows"), [(8, None, 8), (9, None, 1), (0, None, 1), (0, 64, 1), (0, 8, 8)]
)
def test_a_model_that_goes_wrong_beyond_eight_rows_is_not_batched_beyond_them(
    load_model: LoadModel, max_rows: int, hint: int | None, rows: int
) -> None:
    model = load_model(onnx_models.adds_rows_beyond(8))
    assert limits_for(model, max_rows, 0, hint=hint).max_rows == rows


@pytest.mark.parametrize("typical", [0, 2])
def test_a_model_that_swaps_rows_of_a_large_batch_is_not_batched(
    load_model: LoadModel, typical: int
) -> None:
    model: Any = load_model(onnx_models.linear())
    plain = model.infer

    def swaps(inputs: Any, *more: Any) -> Any:
        outputs = plain(inputs, *more)
        return {name: np.roll(array, 8 * (len(array) // 16), 0) for name, array in outputs.items()}

    model.infer = swaps
    rows = [{"x": np.full((1, 4), row, dtype=np.float32)} for row in range(typical)]
    assert limits_for(model, 8, 0, typical=rows).max_rows == 8
    assert limits_for(model, 32, 0, typical=rows).max_rows == 1


def test_as_many_rows_as_may_share_a_run_are_tried_and_no_more(load_model: LoadModel) -> None:
    for max_rows, hint, most in ((0, None, AUTO_ROWS), (100, None, 100), (0, 40, 40), (3, None, 3)):
        model = load_model(onnx_models.linear())
        tried = sizes(model)
        assert limits_for(model, max_rows, 0, hint=hint).max_rows == most
        assert max(tried) == most


def test_a_batch_that_fails_leaves_those_that_were_tried(load_model: LoadModel) -> None:
    model = load_model(onnx_models.fails_beyond(20))
    assert limits_for(model, 20, 0).max_rows == 20
    assert limits_for(model, 21, 0).max_rows == 8


def test_what_is_too_much_to_try_is_not_allowed(
    load_model: LoadModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = load_model(onnx_models.linear())
    tried = sizes(model)
    assert limits_for(model, 65536, 0).max_rows == max(tried) == 1024
    assert len(tried) < 30
    assert "up to 1024 rows share a run, and not 65536" in caplog.text
    row_bytes = (4 + 2) * 4
    monkeypatch.setattr(trial, "_MOST_BYTES", 100 * row_bytes)
    assert limits_for(model, 65536, 0).max_rows == 64
    assert limits_for(model, 100, 0).max_rows == 100


def test_of_a_slow_model_as_much_is_tried_as_a_moment_allows(load_model: LoadModel) -> None:
    model: Any = load_model(onnx_models.linear())
    plain, tried = model.infer, list[int]()

    def slow(inputs: Any, *more: Any) -> Any:
        tried.append(len(inputs["x"]))
        time.sleep(0.12)
        return plain(inputs, *more)

    model.infer = slow
    most = limits_for(model, 1000, 0).max_rows
    assert most in (32, 64)  # 5 s, of 0.06 s a row or somewhat more on a busy machine.
    assert tried == [1, 1, 1, 1, 2, most]


def test_the_runs_of_a_trial_are_observed(load_model: LoadModel) -> None:
    model = load_model(onnx_models.linear())
    predictor = Predictor()
    limits_for(model, 0, 0, predictor=predictor)
    key, _ = key_of(model.signature, {"x": np.zeros((1, 4), dtype=np.float32)}, None)
    for rows in (1, 8, AUTO_ROWS):
        assert (key, rows.bit_length()) in predictor._seen

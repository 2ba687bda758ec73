"""How long runs are predicted to take: what is observed at load and later, and what counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from runtime_kit import onnx_models, packages
from runtime_kit.process import seed

from slipway_runtime.artifact.digest import Digest
from slipway_runtime.errors import InferenceFailed
from slipway_runtime.inference.batching import key_of
from slipway_runtime.inference.model import Model
from slipway_runtime.inference.operators import depends_on_shapes_alone
from slipway_runtime.inference.timing import Predictor, measure, rehearse
from slipway_runtime.metrics import Metrics
from slipway_runtime.server.loader import load
from slipway_runtime.settings import ServeSettings

LoadModel = Callable[[bytes], Model]


def x(rows: int, width: int = 4) -> dict[str, Any]:
    return {"x": np.zeros((rows, width), dtype=np.float32)}


def predicted(model: Model, predictor: Predictor, inputs: dict[str, Any]) -> float | None:
    key, rows = key_of(model.signature, inputs, None)
    return predictor.predict(key, rows or 1)


def work(seconds: float) -> None:
    ends = time.thread_time() + seconds
    while time.thread_time() < ends:
        pass


def delayed(model: Any, before: Callable[[int], None]) -> list[int]:
    """Have each run preceded by a call with its number; returns the rows of the runs."""
    plain, rows = model.infer, list[int]()

    def infer(inputs: Any, *more: Any) -> Any:
        rows.append(len(inputs["x"]))
        before(len(rows))
        return plain(inputs, *more)

    model.infer = infer
    return rows


def test_a_longer_run_counts_at_once_and_a_shorter_one_by_and_by() -> None:
    predictor = Predictor()
    assert predictor.predict(("k",), 1) is None
    predictor.observe(("k",), 1, 0.1)
    assert predictor.predict(("k",), 1) == 0.1
    assert predictor.predict(("k",), 8) == pytest.approx(0.8)
    assert predictor.predict(("other",), 1) is None
    predictor.observe(("k",), 1, 0.5)
    assert predictor.predict(("k",), 1) == 0.5
    predictor.observe(("k",), 1, 0.1)
    assert predictor.predict(("k",), 1) == pytest.approx(0.42)


def test_one_run_that_was_interrupted_does_not_count_and_two_do() -> None:
    predictor = Predictor()
    for seconds, expected in ((1e-5, 1e-5), (4e-3, 1e-5), (1e-5, 1e-5), (4e-3, 1e-5), (3e-3, 3e-3)):
        predictor.observe(("k",), 1, seconds)
        assert predictor.predict(("k",), 1) == pytest.approx(expected)
    predictor.observe(("k",), 1, 0.5)
    assert predictor.predict(("k",), 1) == 0.5


def test_fewer_rows_than_any_seen_take_no_longer_than_these() -> None:
    predictor = Predictor()
    predictor.observe(("k",), 32, 1e-4)
    assert predictor.predict(("k",), 1) == 1e-4


def test_what_clients_choose_does_not_fill_the_memory() -> None:
    predictor = Predictor()
    for number in range(5000):
        predictor.observe((number,), 1, 0.1)
    assert len(predictor._seen) <= 512


def test_a_model_whose_time_depends_on_values_is_never_run_on_the_loop(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    window = onnx_models.build(
        [helper.make_node("HannWindow", ["size"], ["y"])],
        [onnx_models.tensor("size", [], "INT64")],
        [onnx_models.tensor("y", ["n"])],
    )
    models = {onnx_models.busy(): False, window: False, onnx_models.linear(): True}
    for content, expected in models.items():
        path.write_bytes(content)
        assert depends_on_shapes_alone(path) is expected
    with path.open("r+b") as file:
        file.truncate(20_000_000)
    assert depends_on_shapes_alone(path) is False


# ---- at load ----


def test_what_is_measured_leaves_the_first_run_of_a_shape_out(load_model: LoadModel) -> None:
    model = load_model(onnx_models.linear())
    delayed(model, lambda number: work(0.05) if number == 1 else None)
    predictor = Predictor()
    outputs, seconds = measure(model, predictor, x(8))
    assert outputs["y"].shape == (8, 2)
    seen = predicted(model, predictor, x(8))
    assert seen is not None
    assert 0 < seen <= seconds < 0.05


def test_a_single_run_tells_nothing(load_model: LoadModel) -> None:
    model = load_model(onnx_models.linear())
    rows = delayed(model, lambda _: time.sleep(0.11))
    predictor = Predictor()
    measure(model, predictor, x(1), at_least=1)
    assert rows == [1]
    assert predicted(model, predictor, x(1)) is None


@pytest.mark.parametrize(("on_cpu", "least", "most"), [(True, 0.0, 0.02), (False, 0.03, 1.0)])
def test_what_counts_is_work_on_the_processor_and_the_time_that_passes_elsewhere(
    load_model: LoadModel, on_cpu: bool, least: float, most: float
) -> None:
    model = load_model(onnx_models.linear())
    model.on_cpu = on_cpu
    delayed(model, lambda _: time.sleep(0.03))
    predictor = Predictor()
    _, seconds = measure(model, predictor, x(1))
    assert seconds >= 0.03
    assert least <= (predicted(model, predictor, x(1)) or -1) < most


def test_one_request_of_each_shape_is_measured(load_model: LoadModel) -> None:
    model = load_model(onnx_models.identity())
    rows = delayed(model, lambda _: None)
    predictor = Predictor()
    rehearse(model, predictor, [x(2), x(2), x(1, 7), x(2)])
    assert rows == [2, 2, 2, 1, 1, 1]
    assert predicted(model, predictor, x(1)) is not None
    assert predicted(model, predictor, x(1, 7)) is not None
    assert predicted(model, predictor, x(1, 9)) is None


def test_what_takes_long_is_not_measured_for_every_shape(load_model: LoadModel) -> None:
    model = load_model(onnx_models.identity())
    rows = delayed(model, lambda _: time.sleep(0.11))
    rehearse(model, Predictor(), [x(1, width) for width in range(1, 100)])
    assert rows == [1, 1]


def test_a_request_that_fails_tells_no_time(load_model: LoadModel) -> None:
    model: Any = load_model(onnx_models.identity())

    def fails(_inputs: Any) -> Any:
        raise InferenceFailed("no")

    model.infer = fails
    predictor = Predictor()
    rehearse(model, predictor, [x(1)])
    assert predicted(model, predictor, x(1)) is None


@pytest.mark.parametrize("shape", [(1, 6), (2, 7)])
@pytest.mark.parametrize(("microseconds", "on_the_loop"), [("20000", True), ("0", False)])
async def test_the_first_request_to_a_loaded_model_is_where_runs_like_its_samples_belong(
    tmp_path: Path, shape: tuple[int, int], microseconds: str, on_the_loop: bool
) -> None:
    digest = seed(tmp_path, onnx_models.identity())
    samples = [np.ones((2, width), dtype=np.float32).tolist() for width in (6, 7)]
    settings = ServeSettings.model_validate(
        {
            "SLIPWAY_CACHE_DIR": tmp_path,
            "SLIPWAY_INLINE_MICROSECONDS": microseconds,
            "SLIPWAY_GOLDEN": packages.golden(*(({"x": s}, {"y": s}) for s in samples)).decode(),
        }
    )
    metrics = Metrics("m", "1", digest)
    routes = load("m", Digest.parse(digest), settings, metrics, lambda _phase: None, lambda: True)
    ticket = routes.service._executor.submit(x(*shape))
    await asyncio.sleep(0)  # A request may wait for others until the loop's turn ends.
    assert ticket.future.done() is on_the_loop
    assert np.array_equal((await ticket.future).outputs["y"], x(*shape)["x"])

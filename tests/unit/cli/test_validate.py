"""`slipway validate`: the same, different, and where."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cli_kit import models
from cli_kit.run import slipway
from onnx import helper, numpy_helper

from slipway.model.tensor import Tensor
from slipway.validation import cases
from slipway.validation.compare import Tolerance, difference

Save = Callable[..., Path]


def mlp(*, second: float = 1.0) -> bytes:
    """x [n, 4] -> hidden = x * 2 -> scaled = hidden * second -> y = scaled + 1."""
    constants = [
        numpy_helper.from_array(np.array(value, np.float32), name)
        for name, value in (("two", 2.0), ("second", second), ("one", 1.0))
    ]
    return models.build(
        [
            helper.make_node("Mul", ["x", "two"], ["hidden"], name="first_layer"),
            helper.make_node("Mul", ["hidden", "second"], ["scaled"], name="second_layer"),
            helper.make_node("Add", ["scaled", "one"], ["y"], name="last_layer"),
        ],
        [models.tensor("x", ["n", 4])],
        [models.tensor("y", ["n", 4])],
        constants,
    )


def mean_over_batch() -> bytes:
    """A model that says that it can be batched, and mixes the rows."""
    axes = numpy_helper.from_array(np.array([0], np.int64), "axes")
    return models.build(
        [
            helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=1),
            helper.make_node("Sub", ["x", "mean"], ["y"]),
        ],
        [models.tensor("x", ["n", 4])],
        [models.tensor("y", ["n", 4])],
        [axes],
    )


def tokens() -> bytes:
    """ids [n, sequence] INT64 -> y = row of a table with 100 rows."""
    table = numpy_helper.from_array(np.arange(200, dtype=np.float32).reshape(100, 2), "table")
    return models.build(
        [helper.make_node("Gather", ["table", "ids"], ["y"])],
        [models.tensor("ids", ["n", "sequence"], "INT64")],
        [models.tensor("y", ["n", "sequence", 2])],
        [table],
    )


def test_a_model_equals_itself_over_batch_sizes_seeds_and_edge_values(linear: Path) -> None:
    ended = slipway("validate", linear, "--json")
    assert ended.code == 0
    told = ended.json
    assert told["close"] is True
    assert told["comparedWith"] == "itself, row by row"
    labels = {item["case"] for item in told["differences"]}
    assert {"batch 1, seed 0", "batch 5, seed 1", "all 0", "all 100"} <= labels


def test_a_model_that_mixes_the_rows_of_a_batch_is_found_out(saved: Save) -> None:
    ended = slipway("validate", saved(mean_over_batch()))
    assert ended.code == 4
    assert "DIFFERS" in ended.out


def test_two_models_that_differ_are_told_apart_with_the_node_that_parts_them(
    saved: Save,
) -> None:
    model, other = saved(mlp(second=1.01), "a.onnx"), saved(mlp(), "b.onnx")
    ended = slipway("validate", model, "--against", other)
    assert ended.code == 4
    assert "'scaled', made by Mul (second_layer)" in ended.out
    told = slipway("validate", model, "--against", other, "--json").json
    assert told["close"] is False
    assert told["worst"][0]["maxRelative"] == pytest.approx(0.01, rel=0.2)


def test_a_difference_within_the_tolerance_is_none(saved: Save) -> None:
    model, other = saved(mlp(second=1.01), "a.onnx"), saved(mlp(), "b.onnx")
    assert slipway("validate", model, "--against", other, "--rtol", 0.02, "--atol", 5).code == 0


def test_models_with_other_inputs_are_not_compared(linear: Path, saved: Save) -> None:
    other = saved(models.identity(name="z"), "other.onnx")
    ended = slipway("validate", linear, "--against", other)
    assert ended.code == 4
    assert "other inputs: z (FP32)" in ended.err


def test_given_outputs_are_what_must_come(linear: Path, folder: Path) -> None:
    x = np.array([[1, 2, 3, 4]], np.float32)
    np.savez(folder / "right.npz", x=x, y=np.array([[41, 51]], np.float32))
    np.savez(folder / "wrong.npz", x=x, y=np.array([[41, 52]], np.float32))
    assert slipway("validate", linear, "--samples", "right.npz", "--no-random").code == 0
    ended = slipway("validate", linear, "--samples", "wrong.npz", "--no-random")
    assert ended.code == 4
    assert "wrong.npz" in ended.out


def test_a_case_is_saved_with_its_outputs_and_read_again(linear: Path, folder: Path) -> None:
    assert slipway("validate", linear, "--save-samples", "golden.npz").code == 0
    with np.load(folder / "golden.npz") as golden:
        assert sorted(golden.files) == ["x", "y"]
    assert slipway("validate", linear, "--samples", "golden.npz", "--no-random").code == 0
    assert [path.name for path in folder.iterdir() if path.name.endswith(".tmp")] == []


def test_each_case_has_rows_of_its_own() -> None:
    made = cases.made([Tensor("x", "FP32", ("batch", 4))], cases.Plan(edges=False))
    rows = np.concatenate([case.inputs["x"] for case in made])
    assert len(np.unique(rows, axis=0)) == len(rows) == 2 * (1 + 2 + 5)


def test_sizes_of_dimensions_and_ranges_of_values_are_obeyed(saved: Save) -> None:
    model = saved(tokens())
    ended = slipway("validate", model, "--dim", "sequence=3,9", "--range", "ids=50:100", "--json")
    assert ended.code == 0
    labels = {item["case"] for item in ended.json["differences"]}
    assert "batch 2, sequence 9, seed 0" in labels
    beyond = slipway("validate", model, "--range", "ids=500:501")
    assert beyond.code == 3
    assert "--range" in beyond.err


def test_what_the_checker_refuses_is_refused(saved: Save) -> None:
    content = models.build(
        [helper.make_node("Add", ["x"], ["y"])],
        [models.tensor("x", ["n"])],
        [models.tensor("y", ["n"])],
    )
    ended = slipway("validate", saved(content))
    assert ended.code == 3
    assert "checker" in ended.err


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"z": np.zeros((1, 4), np.float32)}, "lacks the input 'x'"),
        ({"x": np.zeros((1, 4), np.float32), "z": np.zeros(1)}, "neither an input nor"),
        ({"x": np.zeros((1, 4), np.complex64)}, "the model expects float32"),
    ],
)
def test_samples_that_do_not_fit_are_refused(
    linear: Path, folder: Path, arrays: dict[str, np.ndarray], told: str
) -> None:
    np.savez(folder / "s.npz", allow_pickle=True, **arrays)
    ended = slipway("validate", linear, "--samples", "s.npz")
    assert ended.code == 2
    assert told in ended.err


def test_samples_are_never_unpickled(linear: Path, folder: Path) -> None:
    np.save(folder / "s.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    ended = slipway("validate", linear, "--samples", "s.npy")
    assert ended.code == 2
    assert "plain arrays" in ended.err


@pytest.mark.parametrize(
    ("actual", "wanted", "close"),
    [
        ([1.0, np.nan], [1.0, np.nan], True),
        ([np.inf], [np.inf], True),
        ([np.inf], [-np.inf], False),
        ([np.nan], [1.0], False),
        ([1e300], [1e300], True),
        ([0.0], [9e-6], True),
        ([1.0, 2.0], [1.0], False),
    ],
)
def test_values_without_arithmetic_are_compared_all_the_same(
    actual: list[float], wanted: list[float], close: bool
) -> None:
    found = difference("case", "y", np.array(actual), np.array(wanted), Tolerance())
    assert found.close is close


@pytest.mark.parametrize(
    ("left", "right", "absolute", "close"),
    [
        ([20000], [20015], 0.0, False),
        ([20000], [20001], 1.0, True),
        ([2**62], [2**62 + 1], 0.5, False),
        ([7, 8], [7, 8], 0.0, True),
    ],
)
def test_whole_numbers_may_be_apart_by_the_absolute_tolerance_alone(
    left: list[int], right: list[int], absolute: float, close: bool
) -> None:
    tolerance = Tolerance(relative=0.001, absolute=absolute)
    one, other = np.array(left, np.int64), np.array(right, np.int64)
    found = difference("case", "ids", one, other, tolerance)
    assert found.close is close
    assert (found.absolute > 0) is (left != right)

"""What the pattern of differences suggests to somebody whose file was refused."""

from __future__ import annotations

import numpy as np
import pytest

from slipway.model.tensor import Tensor
from slipway.validation.cases import Case
from slipway.validation.check import Outcome
from slipway.validation.compare import Difference, Tolerance
from slipway.validation.remedies import suggested

X = Tensor("x", "FP32", ("batch", "sequence", 4))
IDS = Tensor("ids", "INT64", ("batch", "sequence"))


def case(label: str, batch: int, sequence: int) -> Case:
    shapes = {"x": (batch, sequence, 4), "ids": (batch, sequence)}
    return Case(label, {name: np.zeros(shape) for name, shape in shapes.items()})


CASES = [case("a", 1, 7), case("b", 2, 7), case("c", 1, 12), case("d", 2, 12), case("all 0", 1, 7)]


def suggestions(
    failed: dict[str, float], largest: float = 0.0, inputs: tuple[Tensor, ...] = (X, IDS)
) -> list[str]:
    differences = [
        Difference(
            item.label, "y", failed.get(item.label, 0), 1, item.label not in failed, "", largest
        )
        for item in CASES
    ]
    return suggested(Outcome("torch", CASES, differences), inputs, Tolerance(1e-3, 1e-5))


@pytest.mark.parametrize(
    ("failed", "symbol", "fixed"),
    [
        ({"c": 1.0, "d": 1.0}, "sequence 7", ["x=FP32[batch,7,4]", "ids=INT64[batch,7]"]),
        ({"b": 1.0, "d": 1.0}, "batch 1", ["x=FP32[1,sequence,4]", "ids=INT64[1,sequence]"]),
    ],
)
def test_a_size_that_became_a_constant_is_named(
    failed: dict[str, float], symbol: str, fixed: list[str]
) -> None:
    found = suggestions(failed)
    assert all(text.startswith(f"it is right for {symbol} alone") for text in found)
    assert [text.rsplit(" ", 1)[1] for text in found] == fixed


@pytest.mark.parametrize(
    ("apart", "largest", "told"),
    [(2.8e-4, 6400.0, "--atol 3e-04,"), (0.05, 100.0, "--atol 5e-02,"), (0.2, 100.0, None)],
)
def test_a_difference_that_is_small_beside_other_values_is_told_with_its_tolerance(
    apart: float, largest: float, told: str | None
) -> None:
    found = suggestions({"b": apart, "c": apart}, largest)
    assert [text.startswith(told or "") for text in found] == ([True] if told else [])


def test_a_difference_among_equal_values_alone_is_told() -> None:
    assert suggestions({"all 0": 3.0})[0].startswith("--range x=-3:3")
    assert suggestions({"all 0": 3.0}, inputs=(IDS,)) == []
    assert suggestions({"all 0": 3.0, "b": 3.0}) == []


def test_what_agrees_or_has_no_pattern_is_told_nothing() -> None:
    assert suggestions({}) == []
    assert suggestions({"a": 1.0, "d": 1.0}) == []

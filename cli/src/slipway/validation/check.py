"""The whole validation of a model file: checker, shape inference, runs and comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnx.checker
import onnx.shape_inference

from slipway.errors import InvalidModel
from slipway.model import graph as graphs
from slipway.model import ort
from slipway.model.findings import not_batchable
from slipway.model.signature import Array, inputs_with_typical, outputs_of
from slipway.model.tensor import Tensor
from slipway.validation import cases
from slipway.validation.cases import Case
from slipway.validation.compare import Difference, Tolerance, differences
from slipway.validation.ties import Choice, settled

_checker = cast("Any", onnx.checker)  # its types are partly unknown

Reference = Callable[[Mapping[str, Array]], Mapping[str, Array]]
"""Computes the expected outputs: arrays by output name, for arrays by input name."""


@dataclass(frozen=True)
class Outcome:
    """What a validation found; ``compared_with`` says what the reference was.

    ``ties`` counts the rows for which another class was named than the reference names, as likely.
    """

    compared_with: str
    cases: Sequence[Case]
    differences: Sequence[Difference]
    ties: int = 0

    @property
    def close(self) -> bool:
        """Whether everything is within the tolerance."""
        return all(item.close for item in self.differences)

    @property
    def failed_case(self) -> Case | None:
        """The first case that is not within the tolerance."""
        labels = {item.case for item in self.differences if not item.close}
        return next((case for case in self.cases if case.label in labels), None)


def check_form(path: Path) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Run ONNX's checker and shape inference; return inputs and outputs.

    Raises:
        NotFound, AccessDenied: the file cannot be read.
        InvalidModel: the checker refuses the model, or shapes contradict each other.
    """
    model = graphs.read(path)
    try:
        _checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        text = " ".join(str(error).split())
        raise InvalidModel(
            f"ONNX's checker refuses {path}: {text}", f"slipway inspect {path} may tell more"
        ) from None
    return inputs_with_typical(model), outputs_of(model.graph)


def compare(
    path: Path,
    chosen: Sequence[Case],
    reference: Reference,
    name: str,
    tolerance: Tolerance,
    choices: Mapping[str, Choice] | None = None,
) -> Outcome:
    """Run the model on every case, and compare with the reference.

    ``choices`` are outputs, by name, that may name either of two classes which tie.
    """
    session = ort.Session(path)
    found: list[Difference] = []
    ties = 0
    for case in chosen:
        actual = session.run_tensors(case.inputs)
        wanted = case.expected or reference(case.inputs)
        agreed, count = settled(actual, wanted, choices or {}, tolerance)
        found += differences(case.label, agreed, wanted, tolerance)
        ties += count
    return Outcome(name, chosen, found, ties)


def compare_with_model(
    path: Path, chosen: Sequence[Case], other: Path, tolerance: Tolerance
) -> Outcome:
    """Compare with another ONNX file."""
    session = ort.Session(other)
    return compare(path, chosen, session.run_tensors, str(other), tolerance)


def compare_with_itself(
    path: Path,
    chosen: Sequence[Case],
    inputs: tuple[Tensor, ...],
    outputs: tuple[Tensor, ...],
    tolerance: Tolerance,
) -> Outcome:
    """Compare a batch with its rows one by one, where the model can be batched.

    Where it cannot, cases without known outputs are only run.
    """
    session = ort.Session(path)
    batchable = bool(inputs) and not not_batchable(inputs, outputs)

    def rows(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        if not batchable:
            return session.run_tensors(feeds)
        runs = [session.run_tensors(row) for row in cases.singles(Case("", feeds), inputs)]
        return {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}

    name = "itself, row by row" if batchable else "itself"
    return compare(path, chosen, rows, name, tolerance)


def outputs_of_case(path: Path, case: Case) -> dict[str, Array]:
    """Return what the model makes of a case."""
    return ort.Session(path).run_tensors(case.inputs)

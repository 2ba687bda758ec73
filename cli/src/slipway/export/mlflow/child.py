"""``python -m slipway.export.mlflow.child``: loads one MLflow model, and answers requests about it.

Runs in the model's own environment, of which only NumPy, onnx and onnxruntime are certain; from
there it knows of this package what needs no more. Requests and answers are lines of JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from slipway.errors import ExportFailed, InvalidArguments, SlipwayError
from slipway.export import sklearn_model, torch_model
from slipway.export.attempt import Exportable
from slipway.export.mlflow import custom
from slipway.export.mlflow.arrays import restore, save
from slipway.export.mlflow.flavors import PYTORCH, SKLEARN
from slipway.model.tensor import Tensor
from slipway.validation import cases
from slipway.validation.cases import Plan

Request = Mapping[str, Any]


class Child:
    """Holds the model between requests."""

    def __init__(self) -> None:
        self._exportable: Exportable | None = None

    def answer(self, request: Request) -> Any:
        """Carry out a request and return its answer."""
        match request["do"]:
            case "load":
                self._exportable = exportable = _load(request)
                return {
                    "framework": exportable.framework,
                    "inputs": [asdict(tensor) for tensor in exportable.inputs],
                    "attempts": [attempt.name for attempt in exportable.attempts],
                    "metadata": dict(exportable.metadata),
                    "columns": {key: list(v) for key, v in exportable.columns.items()},
                    "ranges": dict(exportable.ranges),
                    "choices": {key: asdict(c) for key, c in exportable.choices.items()},
                    "remedy": exportable.remedy,
                    "warnings": list(exportable.warnings),
                    "labels": {key: list(v) for key, v in exportable.labels.items()},
                }
            case "write":
                by_name = {attempt.name: attempt for attempt in self._loaded.attempts}
                return list(by_name[request["attempt"]].write(Path(request["path"])))
            case "run":
                found = self._loaded.reference(restore(Path(request["given"])))
                return save(Path(request["found"]), found)
            case other:
                raise InvalidArguments(f"{other} is not known")

    @property
    def _loaded(self) -> Exportable:
        assert self._exportable is not None
        return self._exportable


def _load(request: Request) -> Exportable:
    folder, flavor = request["folder"], request["flavor"]
    inputs = [Tensor(t["name"], t["datatype"], tuple(t["shape"])) for t in request["inputs"]]
    if flavor == PYTORCH:
        module = importlib.import_module("mlflow.pytorch").load_model(folder, map_location="cpu")
        if not inputs:
            raise InvalidArguments(
                "the model has no signature of tensors, so it is not known what it takes",
                "--input NAME=FP32[batch,4], once for each parameter of forward()",
            )
        ranges = {name: (low, high) for name, (low, high) in request["ranges"].items()}
        plan = Plan((3,), (0,), request["dimensions"], ranges, edges=False)
        example = cases.made(inputs, plan)[0]
        return torch_model.exportable(
            _evaluating(module), inputs, example.inputs, request["outputs"],
            exporter=request["exporter"], opset=request["opset"],
        )  # fmt: skip
    if flavor == SKLEARN:
        estimator = importlib.import_module("mlflow.sklearn").load_model(folder)
        return sklearn_model.exportable(
            estimator, inputs, opset=request["opset"], signature=request["columns"]
        )
    loaded = importlib.import_module("mlflow.pyfunc").load_model(folder)
    artifacts = {name: Path(path) for name, path in request["artifacts"].items()}
    return custom.exportable(loaded, artifacts, request["columns"])


def _evaluating(module: Any) -> Any:
    try:
        return module.eval()
    except NotImplementedError:  # A program of torch.export has one mode, and that is it.
        return module


def _told(error: Exception) -> dict[str, str]:
    if isinstance(error, SlipwayError):
        return {"reason": error.reason, "message": error.message, "hint": error.hint}
    traceback.print_exception(error)
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    return {
        "reason": ExportFailed.__name__,
        "message": f"{type(error).__name__}: {' '.join(str(error).split())[:400]}",
        "hint": f"the model's environment lacks {missing}" if missing else "",
    }


def main() -> None:
    """Answer requests until stdin ends."""
    # What libraries print goes to stderr; answers have the stream for themselves.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    child = Child()
    for line in sys.stdin:
        try:
            told: dict[str, Any] = {"answer": child.answer(json.loads(line))}
        except Exception as error:  # noqa: BLE001 - whatever a model raises is reported
            told = {"error": _told(error)}
        answers.write(json.dumps(told) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()

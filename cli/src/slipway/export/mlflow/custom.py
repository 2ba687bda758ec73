"""A custom PythonModel of the common shape: scikit-learn transformers before one .onnx file.

Its code cannot be read off; so every order of its transformers is a graph to try, and one counts
only when it computes what the model's own predict(DataFrame) does.
"""

from __future__ import annotations

import importlib
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from slipway.errors import InvalidArguments
from slipway.export import sklearn_model
from slipway.export.attempt import Attempt, Exportable
from slipway.export.mlflow import compose
from slipway.model import graph as graphs
from slipway.model.signature import Array, inputs_of, outputs_of
from slipway.model.tensor import Tensor
from slipway.validation import cases
from slipway.validation.cases import Plan

_PICKLES = (".pkl", ".pickle", ".joblib")
_LISTS = (".json", ".txt")
_MATRIX = 2
_REMEDY = (
    "what its predict() does besides must move into the graph: export it from its own framework,"
    " with the scaling inside"
)


def exportable(
    loaded: Any, artifacts: Mapping[str, Path], columns: Mapping[str, str]
) -> Exportable:
    """Prepare the graphs to try; inputs are the raw columns by name, each [batch, 1].

    ``loaded`` is MLflow's pyfunc; ``columns`` are names and datatypes of its signature.

    Raises:
        InvalidArguments: it is not of the common shape; says what must move into the graph.
    """
    graph = _only_graph(artifacts)
    transformers = {
        name: sklearn_model.unpickle(path)
        for name, path in artifacts.items()
        if path.suffix in _PICKLES
    }
    for name, value in transformers.items():
        if not hasattr(value, "transform") or not hasattr(value, "n_features_in_"):
            raise InvalidArguments(
                f"the artifact {name!r} is {type(value).__name__}, no fitted transformer", _REMEDY
            )
    odd = [n for n, p in artifacts.items() if p.suffix not in (".onnx", *_PICKLES, *_LISTS)]
    if odd:
        raise InvalidArguments(f"it is not known what the artifact {odd[0]!r} is for", _REMEDY)
    features = _features(loaded, artifacts, columns, _width(graph, transformers))
    inputs = [Tensor(name, columns.get(name, "FP64"), ("batch", 1)) for name in features]
    for tensor in inputs:
        if tensor.datatype == "BYTES" or not tensor.served:
            raise InvalidArguments(f"the column {tensor.name!r} is no number", _REMEDY)
    output = _compared(loaded, graph, inputs)

    def attempt(order: Sequence[str]) -> Attempt:
        def write(path: Path) -> Sequence[str]:
            made = compose.composed(
                inputs, [transformers[name] for name in order], graph, output.name
            )
            path.write_bytes(made.SerializeToString())
            return []

        return Attempt(" then ".join(["columns", *order, "graph"]), write)

    return Exportable(
        "pyfunc",
        inputs,
        [attempt(order) for order in itertools.permutations(transformers)],
        lambda feeds: {output.name: _fitted(_predicted(loaded, feeds, output.name), output)},
        {"mlflow": str(importlib.import_module("mlflow").__version__)},
        remedy=_REMEDY,
    )


def _only_graph(artifacts: Mapping[str, Path]) -> Path:
    found = [path for path in artifacts.values() if path.suffix == ".onnx"]
    if len(found) != 1:
        raise InvalidArguments(
            f"this PythonModel has {len(found)} .onnx artifacts, and one is wanted", _REMEDY
        )
    if len(inputs_of(graphs.read(found[0]).graph)) != 1:
        raise InvalidArguments(f"{found[0].name} has several inputs", _REMEDY)
    return found[0]


def _width(graph: Path, transformers: Mapping[str, Any]) -> int | None:
    if transformers:
        return max(int(value.n_features_in_) for value in transformers.values())
    size = (inputs_of(graphs.read(graph).graph)[0].shape or (None,))[-1]
    return size if isinstance(size, int) else None


def _features(
    loaded: Any, artifacts: Mapping[str, Path], columns: Mapping[str, str], width: int | None
) -> list[str]:
    """Return the columns in the model's order: a list of names among the artifacts, an attribute
    of the PythonModel, or the signature."""
    candidates = [_listed(path) for path in artifacts.values() if path.suffix in _LISTS]
    attributes: dict[str, Any] = loaded.unwrap_python_model().__dict__
    candidates += list(attributes.values())
    candidates.append(list(columns))
    for candidate in candidates:
        if not isinstance(candidate, (list, tuple)):
            continue
        names = cast("Sequence[Any]", candidate)
        if names and all(isinstance(name, str) for name in names) and width in (None, len(names)):
            return [str(name) for name in names]
    raise InvalidArguments(
        f"it is not known in which order the model takes its {width or ''} columns",
        "give it a list of features as an artifact (.json), or log it with a signature",
    )


def _listed(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".txt":
        return text.split()
    found: Any = json.loads(text)
    if not isinstance(found, dict):
        return found
    # Of an object, the first list in it: {"features": [...]}.
    lists = [value for value in cast("dict[str, Any]", found).values() if _is_list(value)]
    return lists[0] if lists else None


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _compared(loaded: Any, graph: Path, inputs: Sequence[Tensor]) -> Tensor:
    """Return the graph's output that predict() gives, by its name or its type."""
    outputs = outputs_of(graphs.read(graph).graph)
    example = cases.made(inputs, Plan((2,), (0,), edges=False))[0]
    for output in outputs:
        found = _predicted(loaded, example.inputs, output.name)
        kinds = "f" if output.datatype.startswith("FP") else "iub"
        if len(outputs) == 1 or found.dtype.kind in kinds:
            return output
    raise InvalidArguments("predict() gives none of the graph's outputs", _REMEDY)


def _predicted(loaded: Any, feeds: Mapping[str, Array], output: str) -> Array:
    pandas = importlib.import_module("pandas")
    frame = pandas.DataFrame({name: array.ravel() for name, array in feeds.items()})
    found: Any = loaded.predict(frame)
    if isinstance(found, Mapping):
        named = cast("Mapping[str, Any]", found)
        found = named.get(output, next(iter(named.values())))
    if hasattr(found, "columns") and output in found.columns:
        found = found[output]
    return np.asarray(found)


def _fitted(found: Array, output: Tensor) -> Array:
    """Return an answer in the output's rank: a column may come as a list, and the reverse."""
    rank = len(output.shape or ())
    if rank == _MATRIX and found.ndim == 1:
        return found.reshape(-1, 1)
    return found.ravel() if rank == 1 and found.ndim == _MATRIX else found

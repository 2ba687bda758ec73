"""scikit-learn estimators through skl2onnx, which need not be installed."""

from __future__ import annotations

import contextlib
import importlib
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slipway.errors import InvalidArguments
from slipway.export import boosting, source
from slipway.export.attempt import Attempt, Exportable
from slipway.export.obstacles import summary
from slipway.model.signature import Array
from slipway.model.tensor import Tensor

_INPUT = "features"
_LABELS_ALONE = (
    "{} has no probabilities: the file answers the label alone"
    " (fit it within CalibratedClassifierCV for probabilities)"
)


def unpickle(path: Path) -> Any:
    """Read an estimator; the caller has made sure that this is wanted, since it runs code."""
    # It reads what pickle writes as well, and many call its own files .pkl.
    joblib = None
    with contextlib.suppress(ModuleNotFoundError):
        joblib = importlib.import_module("joblib")
    if joblib is None and path.suffix == ".joblib":
        raise source.missing("joblib")
    try:
        if joblib is not None:
            return joblib.load(path)
        with path.open("rb") as file:
            return pickle.load(file)  # noqa: S301 - see above
    except Exception as error:  # noqa: BLE001 - unpickling raises everything there is
        raise source.unreadable_pickle(path, error) from None


def is_estimator(candidate: Any) -> bool:
    """Return whether an object is fitted to features, as scikit-learn's estimators are."""
    return hasattr(candidate, "n_features_in_") and hasattr(candidate, "predict")


def exportable(estimator: Any, inputs: Sequence[Tensor], *, opset: int) -> Exportable:
    """Prepare the conversion; without ``inputs`` it takes features [batch, n] FP32.

    A classifier gives label and probabilities, or where it has none the label alone: skl2onnx's
    scores of those differ from decision_function() in signs and shape. Anything else gives what
    predict() gives; only that is compared where the converted model has more.

    Raises:
        InvalidArguments: the estimator takes something else than one matrix of numbers.
    """
    if not is_estimator(estimator):
        raise InvalidArguments(
            f"{type(estimator).__name__} is no fitted scikit-learn estimator", "call fit() first"
        )
    count = int(estimator.n_features_in_)
    chosen = tuple(inputs) or (Tensor(_INPUT, "FP32", ("batch", count)),)
    if len(chosen) != 1 or chosen[0].datatype not in ("FP32", "FP64"):
        raise InvalidArguments(
            "an estimator takes one input of FP32 or FP64", f"--input x=FP32[batch,{count}]"
        )
    (tensor,) = chosen
    # Mixtures have probabilities, and no classes that they are of.
    classifies = hasattr(estimator, "classes_")
    probable = classifies and hasattr(estimator, "predict_proba")
    # The output of the converted model that is what predict() gives, and its rank.
    predicted, rank = "variable", 2

    def write(path: Path) -> Sequence[str]:
        skl2onnx = _skl2onnx()
        types = importlib.import_module("skl2onnx.common.data_types")
        kind = types.FloatTensorType if tensor.datatype == "FP32" else types.DoubleTensorType
        model = skl2onnx.to_onnx(
            estimator,
            initial_types=[(tensor.name, kind([None, count]))],
            target_opset={"": opset, "ai.onnx.ml": 3},
            options=_plain_outputs(estimator) if classifies else None,
        )
        graph = model.graph
        if classifies and not probable:
            del graph.output[1:]
        graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
        nonlocal predicted, rank
        predicted, rank = graph.output[0].name, len(graph.output[0].type.tensor_type.shape.dim)
        for output in graph.output:
            if output.type.tensor_type.shape.dim:
                output.type.tensor_type.shape.dim[0].dim_param = "batch"
        path.write_bytes(model.SerializeToString())
        return []

    def reference(feeds: Mapping[str, Array]) -> dict[str, Array]:
        features = feeds[tensor.name]
        try:
            found = np.asarray(estimator.predict(features))
            probabilities = estimator.predict_proba(features) if probable else None
        except Exception as error:  # estimators raise everything there is
            raise InvalidArguments(
                f"{type(estimator).__name__} itself cannot predict {features.dtype}"
                f" {list(features.shape)}: {summary(error)}",
                f"--input x=FP64[batch,{count}], or --no-random with --samples of values that it"
                " takes",
            ) from error
        if isinstance(probabilities, list):
            raise InvalidArguments(
                f"{type(estimator).__name__} has several outputs with classes of their own",
                "export each of its estimators by itself: model.estimators_[0]",
            )
        if probabilities is not None:
            return {"label": found, "probabilities": np.asarray(probabilities)}
        return {predicted: found if rank == 1 else found.reshape(len(found), -1)}

    version = str(importlib.import_module("sklearn").__version__)
    return Exportable(
        "scikit-learn",
        chosen,
        [Attempt("skl2onnx", write)],
        reference,
        {"sklearn": version},
        columns=_names(tensor.name, getattr(estimator, "feature_names_in_", ())),
        labels=_names("probabilities", estimator.classes_ if probable else ()),
        warnings=[_LABELS_ALONE.format(type(_last_step(estimator)).__name__)]
        if classifies and not probable
        else [],
    )


def converted(transformer: Any, name: str, width: int, opset: int) -> Any:
    """Return a transformer as a graph of its own, from [batch, width] FP32 under ``name``."""
    types = importlib.import_module("skl2onnx.common.data_types")
    return _skl2onnx().to_onnx(
        transformer,
        initial_types=[(name, types.FloatTensorType([None, width]))],
        target_opset={"": opset, "ai.onnx.ml": 3},
    )


def _plain_outputs(classifier: Any) -> dict[Any, dict[str, bool]]:
    """Return skl2onnx's options for tensors in place of a list of maps."""
    # It asks for maps of the last step of every pipeline, and refuses those of LinearSVC unless
    # another option stands in their place.
    if type(_last_step(classifier)).__name__ == "LinearSVC":
        return {type(_last_step(classifier)): {"nocl": False}}
    return {id(classifier): {"zipmap": False}}


def _last_step(estimator: Any) -> Any:
    """Return what predicts, inside of pipelines and searches for parameters."""
    if hasattr(estimator, "steps"):
        return _last_step(estimator.steps[-1][1])
    if hasattr(estimator, "best_estimator_"):
        return _last_step(estimator.best_estimator_)
    return estimator


def _names(tensor: str, values: Any) -> dict[str, list[str]]:
    found = [str(value) for value in values]
    return {tensor: found} if found else {}


def _skl2onnx() -> Any:
    try:
        found = importlib.import_module("skl2onnx")
    except ModuleNotFoundError:
        raise source.missing("skl2onnx") from None
    boosting.register()
    return found

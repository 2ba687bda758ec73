"""scikit-learn estimators through skl2onnx, which need not be installed."""

from __future__ import annotations

import contextlib
import importlib
import pickle
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from slipway.errors import InvalidArguments
from slipway.export import boosting, data_frame, fitted_ranges, scalers, source, text
from slipway.export.attempt import Attempt, Exportable
from slipway.export.obstacles import summary
from slipway.model.signature import Array
from slipway.model.tensor import Tensor
from slipway.validation.cases import Bounds
from slipway.validation.ties import Choice

_INPUT = "features"
_LABEL = "label"
_PROBABILITIES = "probabilities"
_TYPES = {
    "FP32": "FloatTensorType",
    "FP64": "DoubleTensorType",
    "INT32": "Int32TensorType",
    "INT64": "Int64TensorType",
    "BOOL": "BooleanTensorType",
    "BYTES": "StringTensorType",
}
_LABELS_ALONE = (
    "{} has no probabilities: the file answers the label alone"
    " (fit it within CalibratedClassifierCV for probabilities)"
)

_ROUNDED = (
    "where trees follow a scaler, leave the scaler out: they do not need it, and behind it split so"
    " close to whole numbers that a rounding decides"
)
_MISSING_TEXT = (
    "the original fills in missing text, and an input of ONNX cannot lack any: whoever asks must"
    " send what it is filled in with"
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
    fitted = hasattr(candidate, "n_features_in_") or text.takes_text(candidate)
    return fitted and hasattr(candidate, "predict")


def exportable(
    estimator: Any,
    inputs: Sequence[Tensor],
    *,
    opset: int,
    signature: Mapping[str, str] | None = None,
) -> Exportable:
    """Prepare the conversion; without ``inputs`` it takes features [batch, n] FP32.

    An estimator that takes columns by name has an input for each of them, see `data_frame`;
    ``signature`` are datatypes by column, as far as somebody wrote them down. A pipeline whose head
    cuts text into words takes text [batch, 1] BYTES.

    A classifier gives label and probabilities, or where it has none the label alone: skl2onnx's
    scores of those differ from decision_function() in signs and shape. Anything else gives what
    predict() gives; only that is compared where the converted model has more.

    Raises:
        InvalidArguments: the estimator takes something else than these inputs.
    """
    if not is_estimator(estimator):
        raise InvalidArguments(
            f"{type(estimator).__name__} is no fitted scikit-learn estimator", "call fit() first"
        )
    by_name = data_frame.takes_columns(estimator)
    if by_name:
        chosen = data_frame.inputs(estimator, inputs, signature or {})
    elif text.takes_text(estimator):
        chosen = (text.text_input(estimator, inputs),)
    else:
        chosen = (_matrix(estimator, inputs),)
    conversion = _Conversion(estimator, chosen, by_name=by_name, opset=opset)
    columns = getattr(estimator, "feature_names_in_", ())
    return Exportable(
        "scikit-learn",
        chosen,
        [Attempt("skl2onnx", conversion.write)],
        conversion.reference,
        {"sklearn": str(importlib.import_module("sklearn").__version__)},
        columns={} if by_name else _names(chosen[0].name, columns),
        labels=_names(_PROBABILITIES, estimator.classes_ if conversion.probable else ()),
        ranges=data_frame.ranges(estimator) if by_name else _ranges(estimator, chosen[0]),
        choices=conversion.choices(),
        remedy=_ROUNDED,
        warnings=conversion.warnings(),
    )


class _Conversion:
    """An estimator with the inputs of its file: writes the file, and computes what it should."""

    def __init__(
        self, estimator: Any, inputs: Sequence[Tensor], *, by_name: bool, opset: int
    ) -> None:
        # Mixtures have probabilities, and no classes that they are of.
        self._classifies = hasattr(estimator, "classes_")
        self.probable = self._classifies and hasattr(estimator, "predict_proba")
        self._estimator = estimator
        self._converted = data_frame.without_text_imputers(estimator) if by_name else estimator
        self._inputs = inputs
        self._by_name = by_name
        self._opset = opset
        # The output of the file that is what predict() gives, and its rank.
        self._predicted, self._rank = "variable", 2

    def write(self, path: Path) -> Sequence[str]:
        """Convert into a file."""
        skl2onnx = _skl2onnx()
        types = importlib.import_module("skl2onnx.common.data_types")
        options: dict[Any, Any] = dict(_of_text(self._converted, by_name=self._by_name))
        if self._classifies:
            options |= _plain_outputs(self._converted)
        # Its converter counts the columns, also those that are dropped.
        by_place = self._inputs
        if self._by_name:
            by_place = data_frame.with_dropped(self._estimator, self._inputs)
        model = skl2onnx.to_onnx(
            self._converted,
            initial_types=[
                (t.name, getattr(types, _TYPES[t.datatype])([None, t.wire_shape[-1]]))
                for t in by_place
            ],
            target_opset={"": self._opset, "ai.onnx.ml": 3},
            options=options,
        )
        self._shape(model.graph, by_place)
        path.write_bytes(model.SerializeToString())
        return []

    def _shape(self, graph: Any, by_place: Sequence[Tensor]) -> None:
        """Give a graph the inputs and outputs that are promised, with a batch dimension."""
        for value, tensor in zip(list(graph.input), by_place, strict=True):
            if tensor not in self._inputs:
                graph.input.remove(value)
                continue
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
            _rename(graph, value, tensor.name)
        if self._classifies and not self.probable:
            del graph.output[1:]
        for output in graph.output:
            if output.type.tensor_type.shape.dim:
                output.type.tensor_type.shape.dim[0].dim_param = "batch"
        first = graph.output[0]
        self._predicted, self._rank = first.name, len(first.type.tensor_type.shape.dim)

    def reference(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Return what the estimator itself predicts, by the names of the file's outputs."""
        estimator, first = self._estimator, self._inputs[0]
        precise = self._precise(feeds)
        features = data_frame.frame(precise) if self._by_name else precise[first.name]
        if first.datatype == "BYTES" and not self._by_name:
            features = features.ravel().tolist()
        try:
            with warnings.catch_warnings():
                # True of any matrix, and told at every call.
                warnings.filterwarnings("ignore", "X does not have valid feature names")
                found = np.asarray(estimator.predict(features))
                probabilities = estimator.predict_proba(features) if self.probable else None
        except Exception as error:  # estimators raise everything there is
            raise InvalidArguments(
                f"{type(estimator).__name__} itself cannot predict {_shown(feeds)}:"
                f" {summary(error)}",
                f"--input {first.name}=FP64{first.shown_shape}, or --no-random with --samples of"
                " values that it takes",
            ) from error
        if isinstance(probabilities, list):
            raise InvalidArguments(
                f"{type(estimator).__name__} has several outputs with classes of their own",
                "export each of its estimators by itself: model.estimators_[0]",
            )
        if probabilities is not None:
            return {_LABEL: found, _PROBABILITIES: np.asarray(probabilities)}
        return {self._predicted: found if self._rank == 1 else found.reshape(len(found), -1)}

    def _precise(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Return numbers as people have them whose data are no tensors: in FP64."""
        # Centres of clusters are only compared with numbers of their own datatype.
        centres = getattr(_last_step(self._estimator), "cluster_centers_", None)
        wide = np.float64 if centres is None else centres.dtype
        return {
            name: array.astype(wide) if array.dtype == np.float32 else array
            for name, array in feeds.items()
        }

    def choices(self) -> dict[str, Choice]:
        """Return how labels follow from probabilities, where there are any."""
        if not self.probable:
            return {}
        classes = [np.asarray(value).tolist() for value in self._estimator.classes_]
        return {_LABEL: Choice(_PROBABILITIES, classes)}

    def warnings(self) -> list[str]:
        """Return what the file lacks of the estimator."""
        told: list[str] = []
        if self._classifies and not self.probable:
            told.append(_LABELS_ALONE.format(type(_last_step(self._estimator)).__name__))
        if self._converted is not self._estimator:
            told.append(_MISSING_TEXT)
        return told


def _matrix(estimator: Any, inputs: Sequence[Tensor]) -> Tensor:
    count = int(estimator.n_features_in_)
    chosen = tuple(inputs) or (Tensor(_INPUT, "FP32", ("batch", count)),)
    if len(chosen) != 1 or chosen[0].datatype not in ("FP32", "FP64"):
        raise InvalidArguments(
            "an estimator takes one input of FP32 or FP64", f"--input x=FP32[batch,{count}]"
        )
    return replace(chosen[0], shape=("batch", count))


def _ranges(estimator: Any, matrix: Tensor) -> dict[str, Bounds]:
    if matrix.datatype == "BYTES":
        return {}
    bounds = fitted_ranges.of_matrix(estimator)
    return {} if bounds is None else {matrix.name: bounds}


def _rename(graph: Any, value: Any, name: str) -> None:
    """Give an input its own name, which skl2onnx changes where it is no identifier."""
    before = value.name
    if before == name:
        return
    taken = {other for node in graph.node for other in node.output}
    if name in taken | {tensor.name for tensor in graph.initializer}:
        raise InvalidArguments(
            f"the column {name!r} is called as an output or a step within the file",
            "rename it in the data frame that the pipeline is fitted to",
        )
    value.name = name
    for node in graph.node:
        for place, used in enumerate(node.input):
            if used == before:
                node.input[place] = name


def _shown(feeds: Mapping[str, Array]) -> str:
    return ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in feeds.items())


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


def _of_text(estimator: Any, *, by_name: bool) -> dict[int, dict[str, str]]:
    """Return skl2onnx's options for what cuts text into words."""
    if by_name:
        return text.options(data_frame.vectorizers(estimator))
    return text.options(iter([text.head(estimator)] if text.takes_text(estimator) else []))


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
    scalers.register()
    return found

"""scikit-learn's scalers for skl2onnx, computed in FP64 as scikit-learn does.

Trees that follow a scaler often split at just the number that a whole one is scaled to. Scaled in
FP32 that number falls to the other side about as often as not; scaled in FP64 and rounded once,
as scikit-learn hands it to its trees, it does not.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx

from slipway.model.signature import Array

_ALIASES = {
    "MaxAbsScaler": "SklearnMaxAbsScaler",
    "MinMaxScaler": "SklearnMinMaxScaler",
    "RobustScaler": "SklearnRobustScaler",
    "StandardScaler": "SklearnScaler",
}
_OPERATORS = "skl2onnx.algebra.onnx_ops"
_SHAPES = "skl2onnx.shape_calculators.scaler"
_COMMON = "skl2onnx.operator_converters.common"


def register() -> None:
    """Register the converters with skl2onnx in place of its own."""
    skl2onnx: Any = importlib.import_module("skl2onnx")
    preprocessing: Any = importlib.import_module("sklearn.preprocessing")
    shapes: Any = importlib.import_module(_SHAPES)
    for name, alias in _ALIASES.items():
        skl2onnx.update_registered_converter(
            getattr(preprocessing, name),
            alias,
            shapes.calculate_sklearn_scaler_output_shapes,
            _convert,
        )


def _convert(scope: Any, operator: Any, container: Any) -> None:
    operators: Any = importlib.import_module(_OPERATORS)
    version = container.target_opset
    joined = (
        importlib.import_module(_COMMON).concatenate_variables(scope, operator.inputs, container)
        if len(operator.inputs) > 1
        else operator.inputs[0].full_name
    )
    scaled = operators.OnnxCast(joined, to=onnx.TensorProto.DOUBLE, op_version=version)
    for step, *values in _steps(operator.raw_operator):
        scaled = getattr(operators, step)(scaled, *values, op_version=version)
    double = type(operator.outputs[0].type).__name__ == "DoubleTensorType"
    operators.OnnxCast(
        scaled,
        to=onnx.TensorProto.DOUBLE if double else onnx.TensorProto.FLOAT,
        op_version=version,
        output_names=[operator.outputs[0].full_name],
    ).add_to(scope, container)


def _steps(scaler: Any) -> Iterator[tuple[str, *tuple[Array, ...]]]:
    """Yield what a fitted scaler does, as ONNX's operators with their further arguments."""
    if hasattr(scaler, "min_"):
        # A MinMaxScaler multiplies, where all others divide.
        yield "OnnxMul", _double(scaler.scale_)
        yield "OnnxAdd", _double(scaler.min_)
    else:
        if getattr(scaler, "with_mean", False):
            yield "OnnxSub", _double(scaler.mean_)
        if getattr(scaler, "with_centering", False):
            yield "OnnxSub", _double(scaler.center_)
        if scaler.scale_ is not None:
            yield "OnnxDiv", _double(scaler.scale_)
    if getattr(scaler, "clip", False):
        low, high = getattr(scaler, "feature_range", (-1, 1))
        yield "OnnxClip", _double(low), _double(high)


def _double(values: Any) -> Array:
    return np.asarray(values, np.float64)

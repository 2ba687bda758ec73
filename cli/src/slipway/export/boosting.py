"""LightGBM's and XGBoost's estimators for skl2onnx, which onnxmltools can convert."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from slipway.errors import MissingExtra

_LIGHTGBM = "onnxmltools.convert.lightgbm.operator_converters.LightGbm", "convert_lightgbm"
_XGBOOST = "onnxmltools.convert.xgboost.operator_converters.XGBoost", "convert_xgboost"
_CONVERTERS = {
    "lightgbm": (_LIGHTGBM, "LightGbm", ("LGBMClassifier", "LGBMRegressor")),
    "xgboost": (_XGBOOST, "XGBoost", ("XGBClassifier", "XGBRegressor")),
}
_SHAPES = "skl2onnx.common.shape_calculator"


def register() -> None:
    """Register converters for the estimators of those two packages, if loaded, with skl2onnx.

    Raises:
        MissingExtra: one of them is loaded, and onnxmltools is not installed.
    """
    for package in _CONVERTERS.keys() & sys.modules.keys():
        _register(package)


def _register(package: str) -> None:
    (module, function), prefix, estimators = _CONVERTERS[package]
    try:
        convert = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError:
        raise MissingExtra(
            f"onnxmltools is not installed here, and it converts {package}",
            "pip install 'slipway[boosting]'",
        ) from None
    library: Any = sys.modules[package]
    skl2onnx: Any = importlib.import_module("skl2onnx")
    shapes: Any = importlib.import_module(_SHAPES)
    for name in estimators:
        classifies = name.endswith("Classifier")
        skl2onnx.update_registered_converter(
            getattr(library, name),
            f"{prefix}{name}",
            shapes.calculate_linear_classifier_output_shapes
            if classifies
            else shapes.calculate_linear_regressor_output_shapes,
            convert,
            options={"nocl": [True, False], "zipmap": [True, False, "columns"]}
            if classifies
            else {},
        )

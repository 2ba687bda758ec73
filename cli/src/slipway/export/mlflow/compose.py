"""One graph from raw columns, scikit-learn transformers, and the graph that follows them."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import onnx

from slipway.export import sklearn_model
from slipway.model.signature import DATATYPES, inputs_of, outputs_of
from slipway.model.tensor import Tensor

_onnx = cast("Any", onnx)  # its types are partly unknown
_compose: Any = importlib.import_module("onnx.compose")
_versions: Any = importlib.import_module("onnx.version_converter")
_FEATURES = "slipway_features"
_NEWEST = 21  # What skl2onnx's converters know.
_ELEMENT = {name: number for number, name in DATATYPES.items()}


def composed(
    columns: Sequence[Tensor], transformers: Sequence[Any], graph: Path, output: str
) -> onnx.ModelProto:
    """Return a graph that takes each column as [batch, 1] and keeps one output of ``graph``."""
    model = _onnx.load_model(str(graph))
    opset = _opset(model)
    if opset > _NEWEST:
        model = _versions.convert_version(model, _NEWEST)
        opset = _NEWEST
    made = _columns(columns, opset)
    width = len(columns)
    for index, transformer in enumerate(transformers):
        step = sklearn_model.converted(transformer, "x", width, opset)
        width = _last_size(step, width)
        made = _joined(made, step, f"transformer{index}/")
    made = _joined(made, model, "graph/", keep=(output,))
    del made.metadata_props[:]
    return cast("onnx.ModelProto", made)


def _columns(columns: Sequence[Tensor], opset: int) -> Any:
    helper = _onnx.helper
    inputs = [
        helper.make_tensor_value_info(t.name, _ELEMENT[t.datatype], list(t.shape or ()))
        for t in columns
    ]
    nodes = [
        helper.make_node("Cast", [t.name], [f"{_FEATURES}/{i}"], to=_onnx.TensorProto.FLOAT)
        for i, t in enumerate(columns)
    ]
    parts = [f"{_FEATURES}/{i}" for i in range(len(columns))]
    nodes.append(helper.make_node("Concat", parts, [_FEATURES], axis=1))
    output = helper.make_tensor_value_info(
        _FEATURES, _onnx.TensorProto.FLOAT, ["batch", len(columns)]
    )
    graph = helper.make_graph(nodes, "columns", inputs, [output])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def _joined(first: Any, second: Any, prefix: str, keep: Sequence[str] = ()) -> Any:
    (given,) = inputs_of(second.graph)
    chosen = list(keep) or [outputs_of(second.graph)[0].name]
    (made,) = outputs_of(first.graph)
    second = _compose.add_prefix(second, prefix, rename_outputs=not keep)
    # The same IR for both, or else they are not merged; it says how the file is laid out.
    first.ir_version = second.ir_version
    names = chosen if keep else [prefix + name for name in chosen]
    merged = _compose.merge_models(
        first, second, io_map=[(made.name, prefix + given.name)], outputs=names
    )
    for value in merged.graph.output:
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return merged


def _opset(model: Any) -> int:
    return max(int(e.version) for e in model.opset_import if e.domain in ("", "ai.onnx"))


def _last_size(model: Any, otherwise: int) -> int:
    shape = outputs_of(model.graph)[0].shape
    return shape[-1] if shape and isinstance(shape[-1], int) else otherwise

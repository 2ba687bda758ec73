"""Ways to make a variant, all by ONNX Runtime's own tools, which have no types."""

from __future__ import annotations

import importlib
import logging
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import onnx

from slipway.errors import InvalidArguments, InvalidModel, SlipwayError
from slipway.model import graph as graphs
from slipway.model import ort
from slipway.model.signature import Array

OPTIMIZED = "optimized"
DYNAMIC = "int8-dynamic"
STATIC = "int8-static"
HALF = "fp16"

# Not Conv: ConvInteger is slower than the original's Conv nearly everywhere.
_DYNAMIC_OPERATORS = ("MatMul", "Gemm", "Gather", "Attention", "LSTM", "EmbedLayerNormalization")
_QUANTIZED = {
    "MatMulInteger",
    "DynamicQuantizeLinear",
    "DynamicQuantizeMatMul",
    "DynamicQuantizeLSTM",
    "QAttention",
    "QEmbedLayerNormalization",
    "QLinearConv",
    "QLinearMatMul",
    "QuantizeLinear",
    "DequantizeLinear",
}
_CONVERTED = {
    DYNAMIC: ("MatMul and Gemm", "use --method int8-static for a CNN"),
    STATIC: ("convolutions and products with constants", ""),
}
_FLOAT = 1


@dataclass(frozen=True)
class Wishes:
    """How a variant is made. ``calibration`` holds batches of inputs, for static INT8 alone."""

    calibration: Sequence[Mapping[str, Array]] = ()
    calibrate_by: str = "minmax"
    reduce_range: bool = False
    exclude: Sequence[str] = ()
    level: str = "extended"


def for_model(model: onnx.ModelProto) -> str:
    """Return the INT8 method that suits a model: static where it convolves, dynamic elsewhere."""
    convolves = any(node.op_type == "Conv" for node in graphs.nodes(model.graph))
    return STATIC if convolves else DYNAMIC


def make(method: str, source: Path, target: Path, wishes: Wishes) -> None:
    """Write a variant of ``source``; with external data it comes with a file beside it.

    Raises:
        InvalidArguments: the method does not suit the model.
        InvalidModel: ONNX Runtime's tools refuse it.
    """
    model = graphs.read(source)
    large = bool(graphs.external_files(model))
    if method in _CONVERTED and all(node.domain for node in graphs.nodes(model.graph)):
        raise _nothing_to_convert(method)  # As of trees alone, which have a domain of their own.
    way = {OPTIMIZED: _optimize, DYNAMIC: _dynamic, STATIC: _static, HALF: _half}[method]
    try:
        with _quietly():
            way(source, target, wishes, large=large)
    except (SlipwayError, OSError):
        raise
    except Exception as error:  # these tools raise everything there is
        raise InvalidModel(
            f"{method}: ONNX Runtime's tools refuse the model: {ort.sentence(error)}",
            "slipway inspect and slipway validate may tell more about it",
        ) from error


def _optimize(source: Path, target: Path, wishes: Wishes, *, large: bool) -> None:
    ort.save_optimized(source, target, wishes.level, external=f"{target.name}.data" * large)


def _dynamic(source: Path, target: Path, wishes: Wishes, *, large: bool) -> None:
    tools = _tools()
    prepared = _prepared(source, target, large=large)
    tools.quantize_dynamic(
        str(prepared),
        str(target),
        op_types_to_quantize=list(_DYNAMIC_OPERATORS),
        per_channel=True,
        reduce_range=wishes.reduce_range,
        weight_type=tools.QuantType.QInt8,
        nodes_to_exclude=_excluded(prepared, wishes.exclude),
        use_external_data_format=large,
        extra_options={"DefaultTensorType": _FLOAT},
    )
    _require_quantized(target, DYNAMIC)


def _static(source: Path, target: Path, wishes: Wishes, *, large: bool) -> None:
    if not wishes.calibration:
        raise InvalidArguments(
            "static INT8 needs inputs to calibrate on",
            "--calibration FILE.npz with some hundred typical rows; --random-calibration only to"
            " see size and speed",
        )
    tools = _tools()
    prepared = _prepared(source, target, large=large)
    ways = tools.CalibrationMethod
    tools.quantize_static(
        str(prepared),
        str(target),
        _reader(tools, wishes.calibration),
        quant_format=tools.QuantFormat.QDQ,
        per_channel=True,
        reduce_range=wishes.reduce_range,
        activation_type=tools.QuantType.QUInt8,
        weight_type=tools.QuantType.QInt8,
        nodes_to_exclude=_excluded(prepared, wishes.exclude),
        use_external_data_format=large,
        calibrate_method={
            "minmax": ways.MinMax,
            "entropy": ways.Entropy,
            "percentile": ways.Percentile,
        }[wishes.calibrate_by],
    )
    _require_quantized(target, STATIC)


def _half(source: Path, target: Path, wishes: Wishes, *, large: bool) -> None:
    tool = cast("Any", importlib.import_module("onnxruntime.transformers.float16"))
    load = cast("Any", onnx)
    # Types of its inputs and outputs stay, so that callers notice nothing.
    model = tool.convert_float_to_float16(
        str(source) if large else load.load_model(str(source)),
        keep_io_types=True,
        disable_shape_infer=False,
        op_block_list=None,
        node_block_list=list(wishes.exclude) or None,
    )
    if large:
        load.save_model(
            model, str(target), save_as_external_data=True, location=f"{target.name}.data"
        )
    else:
        load.save_model(model, str(target))


def _prepared(source: Path, target: Path, *, large: bool) -> Path:
    """Fold constants and infer shapes first, as these tools want it."""
    prepared = target.parent / "prepared" / target.name
    prepared.parent.mkdir()
    shapes = cast("Any", importlib.import_module("onnxruntime.quantization.shape_inference"))
    shapes.quant_pre_process(
        str(source),
        str(prepared),
        skip_symbolic_shape=True,
        save_as_external_data=large,
        all_tensors_to_one_file=True,
    )
    model = graphs.read(prepared)
    _free_weights(model.graph)
    prepared.write_bytes(model.SerializeToString())
    return prepared


def _free_weights(graph: onnx.GraphProto) -> None:
    """Make weights of Gemm such that each can be transposed alone, as the tools do in place.

    They see neither other nodes that share the weight, nor that its shape is told beside it.
    """
    weights = {tensor.name: tensor for tensor in graph.initializer}
    kept = [value for value in graph.value_info if value.name not in weights]
    del graph.value_info[:]
    graph.value_info.extend(kept)
    uses = Counter(name for node in graphs.nodes(graph) for name in node.input)
    for number, node in enumerate(graph.node):
        if node.op_type == "Gemm" and node.input[1] in weights and uses[node.input[1]] > 1:
            own = onnx.TensorProto()
            own.CopyFrom(weights[node.input[1]])
            own.name = f"{own.name}_{number}"
            graph.initializer.append(own)
            node.input[1] = own.name


def _excluded(prepared: Path, names: Sequence[str]) -> list[str]:
    """Return the names that nodes bear once they are prepared: fusions and splits add to them."""
    found = {
        node.name
        for node in graphs.nodes(graphs.read(prepared).graph)
        if any(node.name == name or node.name.startswith(f"{name}/") for name in names)
    }
    return sorted(found | {f"{name}_MatMul" for name in found})


def _require_quantized(target: Path, method: str) -> None:
    # The graph alone is read: external data stays on disk.
    operators = {node.op_type for node in graphs.nodes(graphs.read(target).graph)}
    if not operators & _QUANTIZED:
        raise _nothing_to_convert(method)


def _nothing_to_convert(method: str) -> InvalidArguments:
    what, remedy = _CONVERTED[method]
    return InvalidArguments(f"{method} converts {what}, and this model has none", remedy)


def _reader(tools: Any, batches: Sequence[Mapping[str, Array]]) -> Any:
    waiting = iter(batches)

    class Reader(tools.CalibrationDataReader):  # the tool wants this class, known at run time
        def get_next(self) -> dict[str, Array] | None:
            """Return the next batch."""
            batch = next(waiting, None)
            return None if batch is None else dict(batch)

    return Reader()


def _tools() -> Any:
    return cast("Any", importlib.import_module("onnxruntime.quantization"))


@contextmanager
def _quietly() -> Generator[None, None, None]:
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)

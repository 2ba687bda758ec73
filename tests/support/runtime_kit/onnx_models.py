"""Small real ONNX models, each returned as the bytes of its file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 21
NAN = float("nan")
IR_VERSION = 10

ELEMENT_TYPES: dict[str, int] = {
    "BOOL": TensorProto.BOOL,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def build(
    nodes: Sequence[Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    initializers: Sequence[Any] = (),
    *,
    opset: int = OPSET,
    ir_version: int = IR_VERSION,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    graph = helper.make_graph(list(nodes), "test", list(inputs), list(outputs), list(initializers))
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets)
    model.ir_version = ir_version
    helper.set_model_props(model, dict(metadata or {}))
    return model.SerializeToString()


def onnx_from(content: bytes) -> Any:
    return onnx.load_model_from_string(content)


def tensor(name: str, shape: Sequence[int | str] | None, datatype: str = "FP32") -> Any:
    return helper.make_tensor_value_info(name, ELEMENT_TYPES[datatype], shape)


def linear(
    *,
    bias: float = 1.0,
    opset: int = OPSET,
    ir_version: int = IR_VERSION,
    ballast: int = 0,
    columns: Sequence[str] = (),
) -> bytes:
    """x [n, 4] FP32 -> y [n, 2] = x W + bias, W = [[0, 1], [2, 3], [4, 5], [6, 7]].

    ``ballast`` is a number of bytes that the file has besides; ``columns`` names those of x.
    """
    metadata = {"ballast": "x" * ballast} if ballast else {}
    if columns:
        metadata["columns"] = json.dumps({"x": list(columns)})
    weights = numpy_helper.from_array(np.arange(8, dtype=np.float32).reshape(4, 2), "w")
    biases = numpy_helper.from_array(np.full(2, bias, dtype=np.float32), "b")
    return build(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
        [tensor("x", ["n", 4])],
        [tensor("y", ["n", 2])],
        [weights, biases],
        opset=opset,
        ir_version=ir_version,
        metadata=metadata,
    )


def weighted(columns: Sequence[str] | None = None, *, properties: str | None = None) -> bytes:
    """x [n, 3] FP32 -> y [n] = 100 a + 10 b + c; says its columns where they are given."""
    weights = numpy_helper.from_array(np.array([100, 10, 1], dtype=np.float32), "w")
    if columns is not None:
        properties = json.dumps({"x": list(columns)})
    return build(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [tensor("x", ["n", 3])],
        [tensor("y", ["n"])],
        [weights],
        metadata=None if properties is None else {"columns": properties},
    )


def fills_gaps(*, says_so: bool = True) -> bytes:
    """age [n, 1] FP32 and x [n, 2] FP32 of the columns a, b -> y [n, 1] and z [n, 2].

    NaN becomes 7.
    """
    imputer = {"domain": "ai.onnx.ml", "imputed_value_floats": [7.0], "replaced_value_float": NAN}
    metadata = {"columns": json.dumps({"x": ["a", "b"]})} | ({"missing": "nan"} if says_so else {})
    return build(
        [
            helper.make_node("Imputer", ["age"], ["y"], **imputer),
            helper.make_node("Imputer", ["x"], ["z"], **imputer),
        ],
        [tensor("age", ["n", 1]), tensor("x", ["n", 2])],
        [tensor("y", ["n", 1]), tensor("z", ["n", 2])],
        metadata=metadata,
    )


def largest_of_row(datatype: str) -> bytes:
    """x [n, 4] FP32 -> y [n]: the place of the row's largest value, as this datatype."""
    return build(
        [
            helper.make_node("ArgMax", ["x"], ["place"], axis=1, keepdims=0),
            helper.make_node("Cast", ["place"], ["y"], to=ELEMENT_TYPES[datatype]),
        ],
        [tensor("x", ["n", 4])],
        [tensor("y", ["n"], datatype)],
    )


def categories(typical: str | None = None) -> bytes:
    """job [n, 1] BYTES and age [n, 1] FP32 -> is [n, 1, 2], age_out; jobs are clerk and cook alone.

    ``typical`` is the text of the metadata property of that name.
    """
    return build(
        [
            helper.make_node(
                "OneHotEncoder",
                ["job"],
                ["is"],
                domain="ai.onnx.ml",
                cats_strings=["clerk", "cook"],
                zeros=0,
            ),
            helper.make_node("Identity", ["age"], ["age_out"]),
        ],
        [tensor("job", ["n", 1], "BYTES"), tensor("age", ["n", 1])],
        [tensor("is", ["n", 1, 2]), tensor("age_out", ["n", 1])],
        metadata=None if typical is None else {"typical": typical},
    )


def input_per_column() -> bytes:
    """age [n, 1] INT64 and name [n, 1] BYTES, returned as age_out and name_out."""
    return build(
        [
            helper.make_node("Identity", ["age"], ["age_out"]),
            helper.make_node("Identity", ["name"], ["name_out"]),
        ],
        [tensor("age", ["n", 1], "INT64"), tensor("name", ["n", 1], "BYTES")],
        [tensor("age_out", ["n", 1], "INT64"), tensor("name_out", ["n", 1], "BYTES")],
    )


def classifier(labels: Sequence[int] | Sequence[str] = ("no", "yes")) -> bytes:
    """x [n, 2] FP32 -> probability, a map per row: label i has the value x[i]."""
    key = "classlabels_strings" if isinstance(labels[0], str) else "classlabels_int64s"
    kind = TensorProto.STRING if isinstance(labels[0], str) else TensorProto.INT64
    value = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    maps = helper.make_sequence_type_proto(helper.make_map_type_proto(kind, value))
    return build(
        [helper.make_node("ZipMap", ["x"], ["p"], domain="ai.onnx.ml", **{key: list(labels)})],
        [tensor("x", ["n", 2])],
        [helper.make_value_info("p", maps)],
    )


def identity(
    datatype: str = "FP32",
    shape: Sequence[int | str] | None = ("n", "k"),
    input_name: str = "x",
) -> bytes:
    """One input of any datatype and shape, returned as output y."""
    return build(
        [helper.make_node("Identity", [input_name], ["y"])],
        [tensor(input_name, shape, datatype)],
        [tensor("y", shape, datatype)],
    )


def every_datatype(shape: Sequence[int | str] | None = ("n", "k")) -> bytes:
    """An input in_<datatype> for each datatype, returned as out_<datatype>.

    No input is BYTES, which ONNX Runtime's binding cannot feed beside BF16 outputs.
    """
    names = [name for name in ELEMENT_TYPES if name != "BYTES"]
    return build(
        [helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"]) for name in names],
        [tensor(f"in_{name}", shape, name) for name in names],
        [tensor(f"out_{name}", shape, name) for name in names],
    )


def two_inputs() -> bytes:
    """a, b [n, 3] FP32 -> total, difference [n, 3]."""
    return build(
        [
            helper.make_node("Add", ["a", "b"], ["total"]),
            helper.make_node("Sub", ["a", "b"], ["difference"]),
        ],
        [tensor("a", ["n", 3]), tensor("b", ["n", 3])],
        [tensor("total", ["n", 3]), tensor("difference", ["n", 3])],
    )


def logarithm() -> bytes:
    """x [n, k] FP32 -> y = log x, which is NaN below 0 and infinite at 0."""
    return build(
        [helper.make_node("Log", ["x"], ["y"])],
        [tensor("x", ["n", "k"])],
        [tensor("y", ["n", "k"])],
    )


def mean_over_rows() -> bytes:
    """x [n, 2] FP32 -> y [n, 2] = x - the mean of its rows: rows depend on each other."""
    axes = numpy_helper.from_array(np.array([0], dtype=np.int64), "axes")
    return build(
        [
            helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=1),
            helper.make_node("Sub", ["x", "mean"], ["y"]),
        ],
        [tensor("x", ["n", 2])],
        [tensor("y", ["n", 2])],
        [axes],
    )


def clips_by_the_largest() -> bytes:
    """x [n, 2] FP32 -> y [n, 2] = x / max(1, the largest |x| of all rows): between -1 and 1 rows do
    nothing to each other.
    """
    one = numpy_helper.from_array(np.array(1, dtype=np.float32), "one")
    return build(
        [
            helper.make_node("Abs", ["x"], ["sizes"]),
            helper.make_node("ReduceMax", ["sizes"], ["largest"], keepdims=0),
            helper.make_node("Max", ["largest", "one"], ["divisor"]),
            helper.make_node("Div", ["x", "divisor"], ["y"]),
        ],
        [tensor("x", ["n", 2])],
        [tensor("y", ["n", 2])],
        [one],
    )


def picks_what_is_large() -> bytes:
    """x [n, 2] FP32 -> y [k] FP32: those elements of its first column that are above -1, and those
    of its second above 1, which is one for each row that lies between 0 and 1.
    """
    bounds = numpy_helper.from_array(np.array([-1, 1], dtype=np.float32), "bounds")
    flat = numpy_helper.from_array(np.array([-1], dtype=np.int64), "flat")
    return build(
        [
            helper.make_node("Greater", ["x", "bounds"], ["large"]),
            helper.make_node("Reshape", ["large", "flat"], ["chosen"]),
            helper.make_node("Compress", ["x", "chosen"], ["y"]),
        ],
        [tensor("x", ["n", 2])],
        [tensor("y", ["k"])],
        [bounds, flat],
    )


def quantizes_dynamically() -> bytes:
    """x [n, 16] FP32 -> label [n] INT64: of three, by weights in INT8, and by activations whose
    scale is that of all rows together.
    """
    random = np.random.default_rng(1)
    weights = random.integers(-127, 128, (16, 3)).astype(np.int8)
    return build(
        [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
            helper.make_node("MatMulInteger", ["q", "weights", "zero"], ["products"]),
            helper.make_node("Cast", ["products"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["floats", "scale"], ["logits"]),
            helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0),
        ],
        [tensor("x", ["n", 16])],
        [tensor("label", ["n"], "INT64")],
        [numpy_helper.from_array(weights, "weights")],
    )


def reshapes_to_triples() -> bytes:
    """x [n, k] FP32 -> y [m, 3], as many as there are: one for each row only where k is 3."""
    shape = numpy_helper.from_array(np.array([-1, 3], dtype=np.int64), "shape")
    return build(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [tensor("x", ["n", "k"])],
        [tensor("y", ["m", 3])],
        [shape],
    )


def adds_rows_beyond(rows: int) -> bytes:
    """x [n, 4] FP32 -> y [n, 4] = x + max(0, n - rows): larger batches come out wrong."""
    allowed = numpy_helper.from_array(np.array(rows, dtype=np.float32), "allowed")
    return build(
        [
            *_row_count(),
            helper.make_node("Cast", ["count"], ["counted"], to=TensorProto.FLOAT),
            helper.make_node("Sub", ["counted", "allowed"], ["beyond"]),
            helper.make_node("Relu", ["beyond"], ["excess"]),
            helper.make_node("Add", ["x", "excess"], ["y"]),
        ],
        [tensor("x", ["n", 4])],
        [tensor("y", ["n", 4])],
        [_ZERO, allowed],
    )


def fails_beyond(rows: int) -> bytes:
    """x [n, 4] FP32 -> y [n, 4] = x: fails at run for more rows, which a table has not."""
    table = numpy_helper.from_array(np.zeros(rows + 1, dtype=np.float32), "table")
    return build(
        [
            *_row_count(),
            helper.make_node("Gather", ["table", "count"], ["nothing"]),
            helper.make_node("Add", ["x", "nothing"], ["y"]),
        ],
        [tensor("x", ["n", 4])],
        [tensor("y", ["n", 4])],
        [_ZERO, table],
    )


_ZERO = numpy_helper.from_array(np.array(0, dtype=np.int64), "zero")


def _row_count() -> list[Any]:
    return [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["count"]),
    ]


def ones() -> bytes:
    """shape [r] INT64 -> y FP32 of that shape, all 1: a small request with a large answer."""
    one = numpy_helper.from_array(np.array([1], dtype=np.float32), "value")
    return build(
        [helper.make_node("ConstantOfShape", ["shape"], ["y"], value=one)],
        [tensor("shape", ["r"], "INT64")],
        [tensor("y", None)],
    )


def lookup() -> bytes:
    """index [n] INT64 -> y [n] FP32 out of a table of 3 values: fails at run for index 3."""
    table = numpy_helper.from_array(np.array([10, 20, 30], dtype=np.float32), "table")
    return build(
        [helper.make_node("Gather", ["table", "index"], ["y"])],
        [tensor("index", ["n"], "INT64")],
        [tensor("y", ["n"])],
        [table],
    )


def fails_when_warm() -> bytes:
    """x [n] FP32, reshaped to [2, 2]: loads, but no run with n = 1 succeeds."""
    shape = numpy_helper.from_array(np.array([2, 2], dtype=np.int64), "shape")
    return build(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [tensor("x", ["n"])],
        [tensor("y", [2, 2])],
        [shape],
    )


def needs_pixels(least: int = 3) -> bytes:
    """x [n, 1, h, w] FP32 -> y [n, 1, 1, 1]: fails on images with sides below ``least``."""
    kernel = numpy_helper.from_array(np.ones((1, 1, least, least), np.float32), "kernel")
    return build(
        [
            helper.make_node("Conv", ["x", "kernel"], ["sums"]),
            helper.make_node("GlobalAveragePool", ["sums"], ["y"]),
        ],
        [tensor("x", ["n", 1, "h", "w"])],
        [tensor("y", ["n", 1, 1, 1])],
        [kernel],
    )


def grows_when_loaded(mebibytes: int) -> bytes:
    """x [n, 4] FP32 -> y [n, 4]: a small file whose constants are folded into so much at load."""
    shape = numpy_helper.from_array(np.array([mebibytes, 1 << 18], dtype=np.int64), "shape")
    one = numpy_helper.from_array(np.array([1], dtype=np.float32), "one")
    return build(
        [
            helper.make_node("ConstantOfShape", ["shape"], ["large"], value=one),
            helper.make_node("ReduceSum", ["large"], ["sum"], keepdims=0),
            helper.make_node("Add", ["x", "sum"], ["y"]),
        ],
        [tensor("x", ["n", 4])],
        [tensor("y", ["n", 4])],
        [shape],
    )


def grows_with_its_batch() -> bytes:
    """x [n, 4] FP32 -> y [n, 4]: a run takes n MiB."""
    axes = numpy_helper.from_array(np.array([1], dtype=np.int64), "axes")
    wide = numpy_helper.from_array(np.array([1, 1 << 18], dtype=np.int64), "wide")
    return build(
        [
            helper.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=1),
            helper.make_node("Expand", ["sum", "wide"], ["expanded"]),
            helper.make_node("ReduceMean", ["expanded", "axes"], ["mean"], keepdims=1),
            helper.make_node("Add", ["x", "mean"], ["y"]),
        ],
        [tensor("x", ["n", 4])],
        [tensor("y", ["n", 4])],
        [axes, wide],
    )


def busy(size: int = 256) -> bytes:
    """rounds [1] INT64 -> y [1] FP32: a loop of `rounds` matrix products, of 256 x 256."""
    matrix = numpy_helper.from_array(np.eye(size, dtype=np.float32), "matrix")
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("MatMul", ["state", "matrix"], ["next"]),
        ],
        "body",
        [
            tensor("i", [], "INT64"),
            tensor("go", [], "BOOL"),
            tensor("state", [size, size]),
        ],
        [tensor("go_on", [], "BOOL"), tensor("next", [size, size])],
    )
    zero = numpy_helper.from_array(np.array(0, dtype=np.int64), "zero")
    true = numpy_helper.from_array(np.array(True), "true")
    axes = numpy_helper.from_array(np.array([0, 1], dtype=np.int64), "axes")
    flat = numpy_helper.from_array(np.array([1], dtype=np.int64), "flat")
    return build(
        [
            helper.make_node("Gather", ["rounds", "zero"], ["count"]),
            helper.make_node("Loop", ["count", "true", "matrix"], ["end"], body=body),
            helper.make_node("ReduceSum", ["end", "axes"], ["sum"], keepdims=0),
            helper.make_node("Reshape", ["sum", "flat"], ["y"]),
        ],
        [tensor("rounds", [1], "INT64")],
        [tensor("y", [1])],
        [matrix, zero, true, axes, flat],
    )


def dense(size: int, layers: int = 4) -> bytes:
    """x [n, size] FP32 -> y [n, size]: so many layers of size x size, each with a Relu."""
    weights = np.random.default_rng(7).standard_normal((size, size)).astype(np.float32) / size
    nodes = list[Any]()
    for layer in range(layers):
        before = "x" if layer == 0 else f"h{layer}"
        after = "y" if layer == layers - 1 else f"h{layer + 1}"
        nodes.append(helper.make_node("MatMul", [before, "w"], [f"m{layer}"]))
        nodes.append(helper.make_node("Relu", [f"m{layer}"], [after]))
    return build(
        nodes,
        [tensor("x", ["n", size])],
        [tensor("y", ["n", size])],
        [numpy_helper.from_array(weights, "w")],
    )


def marked_mlp(columns: int = 16, hidden: int = 64) -> bytes:
    """x [n, columns] FP32 -> y [n, 5], of two layers, and marker [n, 1]: the first column of x."""
    random = np.random.default_rng(11)

    def weights(name: str, *shape: int) -> Any:
        values = random.standard_normal(shape).astype(np.float32) / np.float32(np.sqrt(shape[0]))
        return numpy_helper.from_array(values, name)

    return build(
        [
            helper.make_node("Gemm", ["x", "w1", "b1"], ["first"]),
            helper.make_node("Relu", ["first"], ["hidden"]),
            helper.make_node("Gemm", ["hidden", "w2", "b2"], ["y"]),
            helper.make_node("Gather", ["x", "column"], ["marker"], axis=1),
        ],
        [tensor("x", ["n", columns])],
        [tensor("y", ["n", 5]), tensor("marker", ["n", 1])],
        [
            *(weights("w1", columns, hidden), weights("b1", hidden)),
            *(weights("w2", hidden, 5), weights("b2", 5)),
            numpy_helper.from_array(np.array([0], dtype=np.int64), "column"),
        ],
    )


def sequence_output(*, also_tensor: bool) -> bytes:
    """x [n] FP32 -> a sequence, and y [n] where asked for."""
    sequence = helper.make_tensor_sequence_value_info("seq", TensorProto.FLOAT, None)
    nodes = [helper.make_node("SequenceConstruct", ["x"], ["seq"])]
    outputs = [sequence]
    if also_tensor:
        nodes.append(helper.make_node("Identity", ["x"], ["y"]))
        outputs.append(tensor("y", ["n"]))
    return build(nodes, [tensor("x", ["n"])], outputs)


def sequence_input() -> bytes:
    """A sequence of FP32 tensors s -> y: the first of them."""
    sequence = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
    zero = numpy_helper.from_array(np.array(0, dtype=np.int64), "zero")
    node = helper.make_node("SequenceAt", ["s", "zero"], ["y"])
    return build([node], [sequence], [tensor("y", None)], [zero])


def optional_input() -> bytes:
    """An optional FP32 tensor o -> y: whether it is there."""
    of = helper.make_tensor_type_proto(TensorProto.FLOAT, ["n"])
    optional = helper.make_value_info("o", helper.make_optional_type_proto(of))
    node = helper.make_node("OptionalHasElement", ["o"], ["y"])
    return build([node], [optional], [tensor("y", [], "BOOL")])


def duplicate_output() -> bytes:
    """Two nodes with the same output, as an exporter has been seen to make; it is refused."""
    return build(
        [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Neg", ["x"], ["y"])],
        [tensor("x", ["n"])],
        [tensor("y", ["n"])],
    )


def custom_operator() -> bytes:
    """text [n] BYTES -> y [n] BYTES: upper case, by an operator of onnxruntime-extensions."""
    content = build(
        [helper.make_node("StringUpper", ["text"], ["y"], domain="ai.onnx.contrib")],
        [tensor("text", ["n"], "BYTES")],
        [tensor("y", ["n"], "BYTES")],
    )
    model = onnx_from(content)
    model.opset_import.append(helper.make_opsetid("ai.onnx.contrib", 1))
    return model.SerializeToString()


def splits_text(operator: str = "StringSplit") -> bytes:
    """text [n] BYTES -> parts [n, parts] BYTES, at spaces; or the same by ``Tokenizer``."""
    if operator == "StringSplit":
        node = helper.make_node(operator, ["text"], ["parts", "count"], delimiter=" ")
    else:
        options: dict[str, Any] = {"separators": [" "], "pad_value": "", "mark": 0, "mincharnum": 1}
        node = helper.make_node(operator, ["text"], ["parts"], domain="com.microsoft", **options)
    content = build(
        [node],
        [tensor("text", ["n"], "BYTES")],
        [tensor("parts", ["n", "parts"], "BYTES")],
    )
    model = onnx_from(content)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model.SerializeToString()


def lower_case(*locales: str) -> bytes:
    """text [n] BYTES -> y0, y1, ... [n] BYTES in lower case, as the C library's locales have it."""
    nodes = [
        helper.make_node(
            "StringNormalizer", ["text"], [f"y{at}"], case_change_action="LOWER", locale=locale
        )
        for at, locale in enumerate(locales)
    ]
    outputs = [tensor(f"y{at}", ["n"], "BYTES") for at in range(len(locales))]
    return build(nodes, [tensor("text", ["n"], "BYTES")], outputs)


def unknown_operator() -> bytes:
    """A graph with an operator that ONNX has not got: well-formed, and refused at load."""
    return build(
        [helper.make_node("NoSuchOperator", ["x"], ["y"])],
        [tensor("x", ["n"])],
        [tensor("y", ["n"])],
    )

"""Binary tensors: the codec, and the protocol with them, in this process."""

from __future__ import annotations

import contextlib
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import helper
from runtime_kit import onnx_models

from slipway_runtime.artifact.digest import Digest
from slipway_runtime.errors import BadRequest
from slipway_runtime.inference import model as models
from slipway_runtime.inference.binary import from_bytes, to_bytes
from slipway_runtime.inference.model import Model
from slipway_runtime.inference.tensors import DATATYPES, TensorSpec
from slipway_runtime.protocol import v2
from slipway_runtime.protocol.request import BINARY, Body

LoadModel = Callable[[bytes], Model]

NO_NUL = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def spec(datatype: str = "FP32", *shape: int | None) -> TensorSpec:
    return TensorSpec("x", DATATYPES[datatype], shape or None)


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Model]:
    """Models that return their input of any shape, one for each datatype."""
    loaded: dict[str, Model] = {}
    folder: Path = tmp_path_factory.mktemp("identities")

    def model(datatype: str) -> Model:
        if datatype not in loaded:
            path = folder / f"{datatype}.onnx"
            path.write_bytes(onnx_models.identity(datatype, shape=None))
            loaded[datatype] = models.load(
                models.ModelIdentity("m", Digest("0" * 64)),
                path,
                ["CPUExecutionProvider"],
                intra_op_threads=1,
                inter_op_threads=1,
            )
        return loaded[datatype]

    return model


@st.composite
def tensors(draw: st.DrawFn) -> tuple[str, Any]:
    """An array of any datatype and shape, finite: 0-d, empty, with strides, of any content."""
    name = draw(st.sampled_from(sorted(DATATYPES)))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3))
    dtype = DATATYPES[name].dtype
    if name == "BYTES":
        elements: Any = NO_NUL
    elif name == "BF16":
        elements = st.integers(0, 2**16 - 1).filter(lambda bits: bits & 0x7F80 != 0x7F80)
    else:
        elements = hnp.from_dtype(dtype, allow_nan=False, allow_infinity=False)
    array = draw(hnp.arrays(dtype, shape, elements=elements))
    return name, array.T if draw(st.booleans()) else array


def equal(one: Any, other: Any) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return (
        one.tolist() == other.tolist() if one.dtype == object else one.tobytes() == other.tobytes()
    )


def plain(datatype: str, array: Any) -> list[Any]:
    """The elements as JSON has them."""
    if datatype == "BF16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return orjson.loads(
        orjson.dumps(
            array.reshape(-1).tolist()
            if datatype == "BYTES"
            else np.ascontiguousarray(array.reshape(-1)),
            option=orjson.OPT_SERIALIZE_NUMPY,
        )
    )


def body_of(
    datatype: str, array: Any, *, binary: bool, parameters: dict[str, Any] | None = None
) -> Body:
    tensor: dict[str, Any] = {"name": "x", "shape": list(array.shape), "datatype": datatype}
    data = b""
    if binary:
        data = bytes(to_bytes(spec(datatype), array))
        tensor["parameters"] = {"binary_data_size": len(data)}
    else:
        tensor["data"] = plain(datatype, array)
    header = orjson.dumps({"inputs": [tensor], "parameters": parameters or {}})
    return Body(header + data, BINARY, len(header)) if binary else Body(header)


def answer_of(model: Model, body: Body) -> tuple[dict[str, Any], bytes]:
    """The JSON of an answer and the bytes behind it."""
    call = v2.decode(model, body)
    payload = call.encode(model.infer(call.inputs, call.outputs), "refuse")
    content = b"".join(payload.parts)
    length = dict(payload.headers).get(b"inference-header-content-length")
    if length is None:
        return orjson.loads(content), b""
    return orjson.loads(content[: int(length)]), content[int(length) :]


@given(tensors(), st.integers(0, 7))
def test_an_array_comes_back_from_its_bytes_bit_for_bit_at_any_offset(
    case: tuple[str, Any], offset: int
) -> None:
    name, array = case
    data = b"#" * offset + bytes(to_bytes(spec(name), array))
    back = from_bytes(spec(name), memoryview(data)[offset:], array.shape)
    assert equal(back, np.ascontiguousarray(array).reshape(array.shape))
    assert back.flags.aligned


@given(case=tensors())
def test_json_and_binary_and_a_direct_run_give_the_same_bits(
    identities: Callable[[str], Model], case: tuple[str, Any]
) -> None:
    name, array = case
    model = identities(name)
    direct = model.infer({"x": np.asarray(array, order="C")})["y"]
    assert direct.shape == array.shape
    for binary_in in (False, True):
        for binary_out in (False, True):
            parameters = {"binary_data_output": binary_out}
            body = body_of(name, array, binary=binary_in, parameters=parameters)
            document, data = answer_of(model, body)
            (output,) = document["outputs"]
            assert output["shape"] == list(array.shape)
            assert output["datatype"] == name
            if binary_out:
                assert output["parameters"] == {"binary_data_size": len(data)}
                assert data == bytes(to_bytes(spec(name), direct))
                assert "data" not in output
            else:
                assert output["data"] == plain(name, direct)


def test_non_finite_values_pass_in_binary(identities: Callable[[str], Model]) -> None:
    array = np.array([math.nan, math.inf, -math.inf, 0.0], dtype=np.float32)
    body = body_of("FP32", array, binary=True, parameters={"binary_data_output": True})
    assert answer_of(identities("FP32"), body)[1] == array.tobytes()


def two(**of: Any) -> Body:
    """a [2, 3] as JSON, b [2, 3] behind it in binary."""
    data = np.ones((2, 3), np.float32).tobytes()
    a = {"name": "a", "shape": [2, 3], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6]}
    b = {
        "name": "b",
        "shape": [2, 3],
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(data)},
    }
    header = orjson.dumps({"inputs": [b, a], **of})
    return Body(header + data, BINARY, len(header))


def test_inputs_and_outputs_may_each_be_json_or_binary(load_model: LoadModel) -> None:
    outputs = [
        {"name": "total", "parameters": {"binary_data": True}},
        {"name": "difference"},
    ]
    document, data = answer_of(load_model(onnx_models.two_inputs()), two(id="7", outputs=outputs))
    assert document["id"] == "7"
    total, difference = document["outputs"]
    assert np.frombuffer(data, np.float32).tolist() == [2, 3, 4, 5, 6, 7]
    assert total["parameters"] == {"binary_data_size": 24}
    assert difference["data"] == [0, 1, 2, 3, 4, 5]


def test_an_output_may_be_json_where_binary_is_the_default(load_model: LoadModel) -> None:
    document, data = answer_of(
        load_model(onnx_models.two_inputs()),
        two(
            parameters={"binary_data_output": True},
            outputs=[
                {"name": "difference"},
                {"name": "total", "parameters": {"binary_data": False}},
            ],
        ),
    )
    assert [output["name"] for output in document["outputs"]] == ["difference", "total"]
    assert len(data) == 24
    assert document["outputs"][1]["data"] == [2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        (["n", 4], 32, [2, 4]),
        (["n", 4], 0, [0, 4]),
        (["n", "k"], 12, [1, 3]),
        ([2, 2], 16, [2, 2]),
        ([], 4, []),
    ],
)
def test_a_raw_body_takes_its_shape_from_the_input(
    load_model: LoadModel, shape: Any, size: int, expected: list[int]
) -> None:
    model = load_model(onnx_models.identity(shape=shape))
    document, _ = answer_of(model, Body(b"\0" * size, BINARY, 0))
    assert document["outputs"][0]["shape"] == expected


def test_a_raw_body_is_answered_in_binary_whatever_the_outputs(load_model: LoadModel) -> None:
    """So does Triton, and its clients read the answer by its header alone."""
    model = load_model(onnx_models.identity(shape=["n", 2]))
    document, data = answer_of(
        model, Body(np.array([[1, np.nan]], np.float32).tobytes(), BINARY, 0)
    )
    assert document["outputs"] == [
        {
            "name": "y",
            "datatype": "FP32",
            "shape": [1, 2],
            "parameters": {"binary_data_size": 8},
        }
    ]
    assert np.array_equal(np.frombuffer(data, np.float32), [1, np.nan], equal_nan=True)


def test_a_raw_body_of_bytes_is_one_string_without_a_length(load_model: LoadModel) -> None:
    model = load_model(onnx_models.identity("BYTES"))
    text = "żółw".encode()
    document, data = answer_of(model, Body(text, BINARY, 0))
    assert document["outputs"][0]["shape"] == [1, 1]
    assert data == struct.pack("<I", len(text)) + text


def prefixed(*strings: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(string)) + string for string in strings)


def with_binary(data: bytes, size: Any, shape: list[int], datatype: str = "FP32") -> Body:
    header = orjson.dumps(
        {
            "inputs": [
                {
                    "name": "x",
                    "shape": shape,
                    "datatype": datatype,
                    "parameters": {"binary_data_size": size},
                }
            ]
        }
    )
    return Body(header + data, BINARY, len(header))


@pytest.mark.parametrize(
    ("datatype", "body", "message"),
    [
        ("FP32", Body(b"{}", BINARY, 3), "is 3, but the body has only 2 bytes"),
        ("FP32", Body(b"{}", BINARY), "needs the header Inference-Header-Content-Length"),
        ("FP32", with_binary(b"\0" * 8, 16, [2, 2]), "only 8 bytes are left of the 8"),
        ("FP32", with_binary(b"\0" * 20, 16, [2, 2]), "sum up to 16"),
        ("FP32", with_binary(b"\0" * 8, 8, [2, 2]), "of FP32 takes 16 bytes, got 8"),
        ("FP32", with_binary(b"", -1, [0, 2]), "an integer of at least 0, got the number -1"),
        ("FP32", with_binary(b"", True, [0, 2]), "got true"),
        ("FP32", Body(b"\0" * 3, BINARY, 0), "a multiple of 4 bytes, got 3"),
        ("BOOL", with_binary(b"\1\2", 2, [1, 2], "BOOL"), "got 2 at position 1"),
        ("BYTES", with_binary(b"", 0, [1, 1], "BYTES"), "take at least 4 bytes"),
        ("BYTES", with_binary(b"", 0, [2**30, 2**9], "BYTES"), "take at least"),
        (
            "BYTES",
            with_binary(prefixed(b"a", b"b")[:-1], 9, [1, 2], "BYTES"),
            "position 1 ends at byte 10, but there are 9",
        ),
        ("BYTES", with_binary(prefixed(b"a", b"b"), 10, [1, 1], "BYTES"), "5 bytes are left"),
        ("BYTES", with_binary(prefixed(b"\xff"), 5, [1, 1], "BYTES"), "position 0 is not UTF-8"),
        ("BYTES", with_binary(prefixed(b"a\0"), 6, [1, 1], "BYTES"), "holds a NUL"),
    ],
)
def test_bytes_that_do_not_fit_are_refused_with_a_sentence(
    load_model: LoadModel, datatype: str, body: Body, message: str
) -> None:
    model = load_model(onnx_models.identity(datatype))
    with pytest.raises(BadRequest) as caught:
        v2.decode(model, body)
    assert message in caught.value.message


def test_a_raw_body_is_refused_where_it_says_too_little(load_model: LoadModel) -> None:
    with pytest.raises(BadRequest, match="for models with one input"):
        v2.decode(load_model(onnx_models.two_inputs()), Body(b"", BINARY, 0))
    three = load_model(onnx_models.identity(shape=["n", "k", "m"]))
    with pytest.raises(BadRequest, match="send a JSON header with the shape"):
        v2.decode(three, Body(b"\0" * 8, BINARY, 0))


@given(st.binary(max_size=200), st.integers(0, 300) | st.none())
def test_no_body_whatever_breaks_the_decoder(
    identities: Callable[[str], Model], content: bytes, length: int | None
) -> None:
    for datatype in ("FP32", "BYTES", "BOOL"):
        with contextlib.suppress(BadRequest):
            v2.decode(identities(datatype), Body(content, BINARY, length))


@pytest.mark.parametrize("name", ["sequence_id", "sequence_start"])
def test_a_stateful_sequence_is_refused(identities: Callable[[str], Model], name: str) -> None:
    body = body_of("FP32", np.zeros(1, np.float32), binary=False, parameters={name: 1})
    with pytest.raises(BadRequest, match="keeps no state"):
        v2.decode(identities("FP32"), body)


def test_bfloat16_outputs_beside_string_inputs_are_refused_at_load(load_model: LoadModel) -> None:
    content = onnx_models.build(
        [
            helper.make_node("Identity", ["x"], ["y"]),
            helper.make_node("Identity", ["s"], ["t"]),
        ],
        [onnx_models.tensor("x", ["n"], "BF16"), onnx_models.tensor("s", ["n"], "BYTES")],
        [onnx_models.tensor("y", ["n"], "BF16"), onnx_models.tensor("t", ["n"], "BYTES")],
    )
    with pytest.raises(Exception, match="both string inputs and bfloat16 outputs"):
        load_model(content)

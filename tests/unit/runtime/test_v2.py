"""The Open Inference Protocol against real models, in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest
from runtime_kit import onnx_models

from slipway_runtime.errors import BadRequest, UnknownResource
from slipway_runtime.inference.model import Model
from slipway_runtime.inference.tensors import DATATYPES
from slipway_runtime.protocol import v2, v2_info
from slipway_runtime.protocol.request import Body

LoadModel = Callable[[bytes], Model]


def infer(model: Model, document: Any) -> dict[str, Any]:
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    call = v2.decode(model, Body(body))
    (answer,) = call.encode(model.infer(call.inputs, call.outputs), "refuse").parts
    return orjson.loads(answer)


def x(data: Any, shape: Any, datatype: Any = "FP32", **more: Any) -> dict[str, Any]:
    return {"name": "x", "shape": shape, "datatype": datatype, "data": data, **more}


def test_a_request_is_answered_with_all_outputs_and_its_id(load_model: LoadModel) -> None:
    answer = infer(
        load_model(onnx_models.linear()), {"id": "7", "inputs": [x([1, 2, 3, 4], [1, 4])]}
    )
    assert answer == {
        "model_name": "m",
        "model_version": "0" * 12,
        "id": "7",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [41.0, 51.0]}],
    }


SAMPLES: dict[str, list[Any]] = {
    "BOOL": [True, False],
    "BF16": [0.5, -3.3895313892515355e38],
    "FP16": [0.5, -65504.0],
    "FP32": [0.1, -3.4e38],
    "FP64": [0.1, 1.7e308],
    "BYTES": ["", "żółw"],
    "UINT64": [0, 2**64 - 1],
    "INT64": [-(2**63), 2**63 - 1],
}


@pytest.mark.parametrize("datatype", onnx_models.ELEMENT_TYPES)
def test_every_datatype_passes_through_unchanged(load_model: LoadModel, datatype: str) -> None:
    data = SAMPLES.get(datatype, [0, 127])
    answer = infer(
        load_model(onnx_models.identity(datatype)), {"inputs": [x(data, [1, 2], datatype)]}
    )
    (output,) = answer["outputs"]
    assert (output["datatype"], output["shape"]) == (datatype, [1, 2])
    if datatype.startswith("FP") or datatype == "BF16":
        dtype = np.float32 if datatype == "BF16" else DATATYPES[datatype].dtype
        assert np.array_equal(np.array(output["data"], dtype), np.array(data, dtype))
    else:
        assert output["data"] == data


def test_scalars_and_empty_batches_are_served(load_model: LoadModel) -> None:
    scalar = infer(load_model(onnx_models.identity(shape=())), {"inputs": [x([3], [])]})
    assert scalar["outputs"][0] | {"name": "y"} == {
        "name": "y",
        "datatype": "FP32",
        "shape": [],
        "data": [3.0],
    }
    empty = infer(load_model(onnx_models.linear()), {"inputs": [x([], [0, 4])]})
    assert empty["outputs"][0]["shape"] == [0, 2]


def two(**more: Any) -> dict[str, Any]:
    inputs = [
        {"name": name, "shape": [1, 3], "datatype": "FP32", "data": data}
        for name, data in (("b", [1, 1, 1]), ("a", [1, 2, 3]))
    ]
    return {"inputs": inputs, **more}


@pytest.mark.parametrize(
    ("outputs", "names"),
    [
        (None, ["total", "difference"]),
        ([], ["total", "difference"]),
        ([{"name": "difference"}], ["difference"]),
        ([{"name": "difference"}, {"name": "total"}], ["difference", "total"]),
    ],
)
def test_the_outputs_asked_for_come_in_the_order_asked_for(
    load_model: LoadModel, outputs: Any, names: list[str]
) -> None:
    request = two() if outputs is None else two(outputs=outputs)
    answer = infer(load_model(onnx_models.two_inputs()), request)
    assert [output["name"] for output in answer["outputs"]] == names
    values = {output["name"]: output["data"] for output in answer["outputs"]}
    assert values["difference"] == [0, 1, 2]


GOOD = x([1, 2, 3, 4], [1, 4])


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"", "the body is empty"),
        (b"{", "the body is not JSON"),
        (b'{"inputs": [NaN]}', "JSON has no NaN"),
        (b'"\xff"', "not UTF-8: byte 1"),
        ([], "the body must be an object"),
        ({}, "inputs must be a list of objects"),
        ({"inputs": {}}, "inputs must be a list of objects"),
        ({"inputs": [1]}, "each of inputs must be an object, got the number 1"),
        ({"inputs": [{}]}, "must have a name, got null"),
        ({"inputs": []}, "input 'x' is missing; the model's inputs are 'x'"),
        ({"inputs": [GOOD, GOOD]}, "input 'x' is given 2 times"),
        ({"inputs": [GOOD | {"name": "z"}]}, "no input 'z'; its inputs are 'x'"),
        ({"inputs": [x([1], [1, 4], "INT64")]}, "has the datatype FP32, got the string 'INT64'"),
        ({"inputs": [x([1], [1, 4], None)]}, "has the datatype FP32, got null"),
        ({"inputs": [x([1, 2, 3, 4], None)]}, "shape must be a list of integers, got null"),
        ({"inputs": [x([1, 2, 3, 4], [1, -4])]}, "integers of at least 0, got the number -4"),
        ({"inputs": [x([1, 2, 3, 4], [True, 4])]}, "integers of at least 0, got true"),
        ({"inputs": [x([1, 2, 3, 4], [4])]}, "has 2 dimensions [-1, 4], got 1"),
        ({"inputs": [x([1, 2, 3, 4, 5], [1, 5])]}, "dimension 1 must be 4, not 5"),
        ({"inputs": [x([1, 2, 3], [1, 4])]}, "has 4 elements, data has 3"),
        ({"inputs": [x([], [2**62, 4])]}, "is too large"),
        ({"inputs": [x([], [2**62, 0])]}, "is too large"),
        ({"inputs": [x([], [0, 2**64 - 1])]}, "is too large"),
        ({"inputs": [x([], [2**20 + 1, 0])]}, "is too large"),
        ({"inputs": [x([1], [1] * 65)]}, "has 65 dimensions, up to 64 may be"),
        ({"inputs": [x([[1, 2], [3]], [1, 4])]}, "ragged"),
        ({"inputs": [x([1, 2, 3, True], [1, 4])]}, "expected a number at index [3], got true"),
        ({"inputs": [x([1, 2, 3, None], [1, 4])]}, "got null"),
        ({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32"}]}, "has no data"),
        (
            {"inputs": [GOOD | {"parameters": {"binary_data_size": 16}}]},
            "has both data and binary_data_size",
        ),
        ({"inputs": [GOOD], "id": 7}, "id must be a string, got the number 7"),
        ({"inputs": [GOOD], "parameters": 1}, "must be an object, got the number 1"),
        ({"inputs": [GOOD], "outputs": [{"name": "z"}]}, "no output 'z'; it has 'y'"),
        ({"inputs": [GOOD], "outputs": [{"name": "y"}] * 2}, "'y' is requested 2 times"),
        ({"inputs": [GOOD], "outputs": [7]}, "each of outputs must be an object with a name"),
    ],
)
def test_a_malformed_request_is_refused_with_a_sentence(
    load_model: LoadModel, document: Any, message: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        infer(load_model(onnx_models.linear()), document)
    assert message in caught.value.message


def test_values_that_a_node_cannot_take_are_the_requests_fault(load_model: LoadModel) -> None:
    model = load_model(onnx_models.lookup())
    request = {"inputs": [{"name": "index", "shape": [1], "datatype": "INT64", "data": [3]}]}
    with pytest.raises(BadRequest, match=r"cannot run on these inputs.*out of data bounds"):
        infer(model, request)


@pytest.mark.parametrize("version", [None, "", "1", "0" * 12])
def test_the_version_is_the_digests_or_1_or_none(load_model: LoadModel, version: Any) -> None:
    v2.check_model(load_model(onnx_models.linear()).identity, "m", version)


@pytest.mark.parametrize(("name", "version"), [("n", None), ("m", "2"), ("m", "0" * 11)])
def test_another_model_or_version_is_unknown(
    load_model: LoadModel, name: str, version: str | None
) -> None:
    with pytest.raises(UnknownResource, match="only"):
        v2.check_model(load_model(onnx_models.linear()).identity, name, version)


def test_metadata_shows_symbolic_dimensions_as_minus_one(load_model: LoadModel) -> None:
    assert v2_info.metadata(load_model(onnx_models.linear())) == {
        "name": "m",
        "versions": ["0" * 12],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
    }


def test_an_output_that_is_no_tensor_is_left_out_and_explained(load_model: LoadModel) -> None:
    model = load_model(onnx_models.sequence_output(also_tensor=True))
    assert model.signature.output_names == ["y"]
    with pytest.raises(BadRequest, match=r"output 'seq' is seq\(tensor\(float\)\)"):
        model.check_outputs(["seq"])

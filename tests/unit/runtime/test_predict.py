"""The pairs of request and answer of /predict; docs/runtime.md shows the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest
from onnx import helper, numpy_helper
from runtime_kit import onnx_models

from slipway_runtime.errors import BadRequest
from slipway_runtime.inference.model import Model
from slipway_runtime.protocol import predict
from slipway_runtime.protocol.request import Body

LoadModel = Callable[[bytes], Model]

ONE = onnx_models.linear
TWO = onnx_models.two_inputs
ROW = [1, 2, 3, 4]


def ask(model: Model, document: Any) -> Any:
    call = predict.decode(model, Body(orjson.dumps(document)))
    (answer,) = call.encode(model.infer(call.inputs, call.outputs), "refuse").parts
    return orjson.loads(answer)


@pytest.mark.parametrize("datatype", onnx_models.ELEMENT_TYPES)
def test_one_value_of_a_row_is_answered_in_every_datatype(
    load_model: LoadModel, datatype: str
) -> None:
    model = load_model(onnx_models.largest_of_row(datatype))
    value = {"BYTES": "1", "BOOL": True}.get(datatype, 1)
    assert ask(model, [0, 5, 0, 0]) == {"y": value}
    assert ask(model, [[0, 5, 0, 0]]) == {"y": [value]}


def named_input() -> bytes:
    return onnx_models.identity(input_name="input")


def nothing() -> bytes:
    value = numpy_helper.from_array(np.ones(2, np.float32))
    constant = helper.make_node("Constant", [], ["y"], value=value)
    return onnx_models.build([constant], [], [onnx_models.tensor("y", [2])])


def scalar() -> bytes:
    return onnx_models.identity(shape=())


def vector() -> bytes:
    return onnx_models.identity(shape=["n"])


def fixed_batch() -> bytes:
    return onnx_models.identity(shape=[1, 2])


@pytest.mark.parametrize(
    ("make", "request_body", "answer"),
    [
        (ONE, ROW, {"y": [41, 51]}),
        (ONE, [ROW], {"y": [[41, 51]]}),
        (ONE, [ROW, ROW], {"y": [[41, 51], [41, 51]]}),
        (ONE, {"x": ROW}, {"y": [41, 51]}),
        (ONE, {"x": [ROW]}, {"y": [[41, 51]]}),
        (ONE, {"features": ROW}, {"y": [41, 51]}),
        (ONE, {"input": ROW}, {"prediction": [41, 51]}),
        (ONE, {"input": [ROW]}, {"prediction": [[41, 51]]}),
        (ONE, {"inputs": {"x": ROW}}, {"y": [41, 51]}),
        (ONE, {"inputs": [ROW]}, {"y": [[41, 51]]}),
        (
            TWO,
            {"a": [1, 2, 3], "b": [1, 1, 1]},
            {"total": [2, 3, 4], "difference": [0, 1, 2]},
        ),
        (
            TWO,
            {"inputs": {"a": [[1, 2, 3]], "b": [[1, 1, 1]]}},
            {"total": [[2, 3, 4]], "difference": [[0, 1, 2]]},
        ),
        (
            onnx_models.input_per_column,
            {"age": 41, "name": "Ada"},
            {"age_out": [41], "name_out": ["Ada"]},
        ),
        (
            onnx_models.input_per_column,
            {"inputs": {"age": [[41]], "name": [["Ada"]]}},
            {"age_out": [[41]], "name_out": [["Ada"]]},
        ),
        (named_input, {"input": [1, 2]}, {"prediction": [1, 2]}),
        (nothing, {}, {"y": [1, 1]}),
        (scalar, {"x": 0.1}, {"y": 0.1}),
        (named_input, [1, 2], {"y": [1, 2]}),
        (vector, [1, 2], {"y": [1, 2]}),
        (vector, {"x": 5}, {"y": 5}),
        (fixed_batch, [1, 2], {"y": [1, 2]}),
        (fixed_batch, [[1, 2]], {"y": [[1, 2]]}),
    ],
)
def test_each_form_has_its_answer(
    load_model: LoadModel, make: Callable[[], bytes], request_body: Any, answer: Any
) -> None:
    assert ask(load_model(make()), request_body) == answer


@pytest.mark.parametrize(
    ("make", "request_body", "message"),
    [
        (TWO, [1, 2, 3], "a bare list does not say which input it is for"),
        (TWO, {"features": [1, 2, 3]}, '{"a": …, "b": …}'),
        (TWO, {"input": [1, 2, 3]}, '{"inputs": {"a": …, "b": …}}'),
        (TWO, {"a": [1, 2, 3]}, "input 'b' is missing"),
        (TWO, {"a": [1, 2, 3], "b": [1, 1, 1], "c": 1}, "no input 'c'"),
        (TWO, {"a": [1, 2, 3], "b": [[1, 1, 1]]}, "'a' came as one row and 'b' as a batch"),
        (ONE, {}, "/predict takes"),
        (ONE, 7, "the body is the number 7"),
        (ONE, {"data": ROW}, "the members 'data'"),
        (ONE, {"features": ROW, "input": ROW}, "the members 'features', 'input'"),
        (ONE, [[ROW]], "has 2 dimensions [-1, 4], got 3"),
        (ONE, [1, 2, 3], "dimension 1 must be 4, not 3"),
        (ONE, [ROW, [1, 2, 3]], "ragged"),
        (ONE, [1, 2, 3, "4"], "got the string '4'"),
        (ONE, {"inputs": [{"name": "x"}]}, "send it to /v2/models/m/infer"),
    ],
)
def test_what_is_ambiguous_or_wrong_is_refused_with_a_sentence(
    load_model: LoadModel, make: Callable[[], bytes], request_body: Any, message: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        ask(load_model(make()), request_body)
    assert message in caught.value.message

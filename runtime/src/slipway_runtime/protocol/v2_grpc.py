"""The Open Inference Protocol, version 2, over gRPC: messages to arrays and back. Knows no server.

Inputs come as typed contents, or all of them as raw contents; outputs are always raw, as Triton's
are, since FP16 and BF16 have no typed form.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, Final, cast

import numpy as np
import orjson

from slipway_runtime.errors import BadRequest
from slipway_runtime.inference.binary import from_bytes, text_of, to_bytes
from slipway_runtime.inference.json_values import NonFinite
from slipway_runtime.inference.model import Model
from slipway_runtime.inference.tensors import Array, TensorSpec, check_names
from slipway_runtime.protocol.messages import ModelInferResponse
from slipway_runtime.protocol.request import Call
from slipway_runtime.protocol.v2 import check_datatype, check_model, check_sizes, timeout_of

_FIELDS: Final[Mapping[str, str]] = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def decode(request: Any, model: Model) -> Call[Any]:
    """Decode a ModelInferRequest; its answer is a ModelInferResponse.

    Raises:
        BadRequest: it does not fit the model's inputs; says which and why.
        UnknownResource: it is for another model or version.
    """
    check_model(model.identity, request.model_name, request.model_version)
    names = [tensor.name for tensor in request.inputs]
    check_names(model.signature, names)
    raw = request.raw_input_contents
    if raw and len(raw) != len(names):
        raise BadRequest(
            f"there are {len(raw)} raw_input_contents for {len(names)} inputs: give all inputs so,"
            " or none"
        )
    specs = model.signature.inputs_by_name
    inputs: dict[str, Array] = {}
    for number, (name, tensor) in enumerate(zip(names, request.inputs, strict=True)):
        spec = specs[name]
        _refuse_shared_memory(tensor)
        check_datatype(spec, tensor.datatype)
        shape = check_sizes(spec, list(tensor.shape))
        if not raw:
            inputs[spec.name] = _typed(spec, tensor.contents, shape)
        elif tensor.HasField("contents"):
            raise BadRequest(f"input {spec.name!r} has contents beside raw_input_contents")
        else:
            inputs[spec.name] = from_bytes(spec, raw[number], shape)
    parameters = {name: _value(parameter) for name, parameter in request.parameters.items()}
    return Call(
        inputs,
        partial(_encode, model, request.id),
        _requested(model, request.outputs),
        timeout_of(parameters),
    )


def _encode(
    model: Model, request_id: str, outputs: Mapping[str, Array], _non_finite: NonFinite
) -> Any:
    response = ModelInferResponse(
        model_name=model.identity.name, model_version=model.identity.version, id=request_id
    )
    for name, array in outputs.items():
        spec = model.output_spec(name)
        tensor = response.outputs.add(name=name, datatype=spec.datatype.name, shape=array.shape)
        if spec.labels is not None:
            tensor.parameters["labels"].string_param = orjson.dumps(spec.labels).decode()
        response.raw_output_contents.append(bytes(to_bytes(spec, array)))
    return response


def _typed(spec: TensorSpec, contents: Any, shape: list[int]) -> Array:
    field = _FIELDS.get(spec.datatype.name)
    if field is None:
        raise BadRequest(
            f"input {spec.name!r} is {spec.datatype.name}, which has no typed contents: use"
            " raw_input_contents"
        )
    given = [descriptor.name for descriptor, _ in contents.ListFields()]
    others = [name for name in given if name != field]
    if others:
        raise BadRequest(
            f"input {spec.name!r} is {spec.datatype.name} and takes {field}, got {others[0]}"
        )
    values = getattr(contents, field)
    if len(values) != math.prod(shape):
        raise BadRequest(
            f"input {spec.name!r}: the shape {shape} has {math.prod(shape)} elements,"
            f" {field} has {len(values)}"
        )
    if spec.datatype.kind == "O":
        array = np.empty(len(values), dtype=np.object_)
        array[:] = [text_of(spec, item, position) for position, item in enumerate(values)]
        return array.reshape(shape)
    wide = np.array(values, dtype=_wide(spec))
    array = wide.astype(spec.datatype.dtype)
    if spec.datatype.kind in "iu" and not np.array_equal(array, wide):
        position = int(np.argmax(array != wide))
        raise BadRequest(
            f"input {spec.name!r}: {int(wide[position])} at position {position} is out of range for"
            f" {spec.datatype.name}"
        )
    return array.reshape(shape)


def _wide(spec: TensorSpec) -> np.dtype[Any]:
    """Return a type that holds every value of the field that carries the datatype."""
    if spec.datatype.kind not in "iu" or spec.datatype.dtype.itemsize == np.dtype("i8").itemsize:
        return spec.datatype.dtype
    return np.dtype(np.int64)


def _requested(model: Model, outputs: Any) -> list[str] | None:
    if not outputs:
        return None
    names: list[str] = []
    for output in outputs:
        _refuse_shared_memory(output)
        if "classification" in output.parameters and _value(output.parameters["classification"]):
            raise BadRequest(
                f"output {output.name!r}: the classification extension is not supported"
            )
        names.append(output.name)
    model.check_outputs(names)
    return names


def _refuse_shared_memory(tensor: Any) -> None:
    if "shared_memory_region" in tensor.parameters:
        raise BadRequest(f"{tensor.name!r}: shared memory is not supported, send data")


def _value(parameter: Any) -> object:
    choice = parameter.WhichOneof("parameter_choice")
    return cast("object", getattr(parameter, choice)) if choice else None

"""The Open Inference Protocol, version 2, over HTTP: JSON, binary tensors, and both together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, Final, NamedTuple, cast

from slipway_runtime.errors import BadRequest, UnknownResource
from slipway_runtime.inference.binary import from_bytes, one_string, to_bytes
from slipway_runtime.inference.json_values import (
    NonFinite,
    from_row_major,
    name_value,
    to_json_ready,
)
from slipway_runtime.inference.model import Model, ModelIdentity
from slipway_runtime.inference.tensors import Array, TensorSpec, check_names, check_shape
from slipway_runtime.protocol.request import BINARY, Body, Call, Payload, encode_json, parse_json

_MAX_SHAPE_SIZE: Final = 2**40
# Of a tensor without elements, which no bytes of the request bound: a run may still have as many.
_MAX_EMPTY_SIZE: Final = 2**20
# As NumPy has it.
_MAX_RANK: Final = 64
_MICROSECONDS: Final = 1e-6


def check_model(identity: ModelIdentity, name: str, version: str | None) -> None:
    """Check that a path names the model that is served; ``1`` and no version mean the digest's.

    Raises:
        UnknownResource: another name or version.
    """
    if name not in identity.names:
        raise UnknownResource(f"there is no model {name[:200]!r} here, only {identity.name!r}")
    if version not in (None, "", "1", identity.version):
        raise UnknownResource(
            f"model {name!r} has no version {str(version)[:200]!r}, only {identity.version!r}"
            " (the first 12 digits of its digest; '1' means the same)"
        )


def decode(model: Model, body: Body) -> Call[Payload]:
    """Decode the body of an infer request.

    Raises:
        BadRequest: it is malformed or does not fit the model's inputs; says which and why.
    """
    if body.header_length == 0:
        return _decode_raw(model, body.content)
    if body.kind == BINARY and body.header_length is None:
        raise BadRequest(
            "a binary body needs the header Inference-Header-Content-Length: the length of the"
            " JSON in front, or 0 for one raw tensor"
        )
    header, binary = _split(body)
    document = parse_json(header)
    if not isinstance(document, dict):
        raise BadRequest(f"the body must be an object with inputs, got {name_value(document)}")
    request = cast("dict[str, object]", document)
    tensors = request.get("inputs")
    if not isinstance(tensors, list):
        raise BadRequest(
            "inputs must be a list of objects with name, shape, datatype and data,"
            f" got {name_value(tensors)}"
        )
    specs = model.signature.inputs_by_name
    given = [_named(tensor) for tensor in cast("list[object]", tensors)]
    check_names(model.signature, [name for name, _ in given])
    inputs = {name: _decode_input(specs[name], tensor, binary) for name, tensor in given}
    binary.check_end()
    parameters = _parameters(request, "the request")
    outputs, as_binary = _requested_outputs(
        model, request.get("outputs"), by_default=_flag(parameters, "binary_data_output")
    )
    return Call(
        inputs,
        partial(_encode, model, _request_id(request.get("id")), as_binary),
        outputs,
        timeout_of(parameters),
    )


def only_ready(content: bytes) -> bool:
    """Return whether a request for the index asks for ready models alone; its body may be empty.

    Raises:
        BadRequest: the body is no JSON object, or its ``ready`` is neither true nor false.
    """
    if not content:
        return False
    document = parse_json(content)
    if not isinstance(document, dict):
        raise BadRequest(f"the body must be an object or empty, got {name_value(document)}")
    return _flag(cast("dict[str, object]", document), "ready")


def timeout_of(parameters: Mapping[str, object]) -> float | None:
    """Return the seconds of the parameter ``timeout``, which is in microseconds; 0 means none.

    Raises:
        BadRequest: it is no such number, or the request asks for what only Triton's stateful
            models have.
    """
    if not parameters:
        return None
    for name in ("sequence_id", "sequence_start", "sequence_end"):
        if parameters.get(name):
            raise BadRequest(f"the parameter {name} is not supported: this model keeps no state")
    value = parameters.get("timeout", 0)
    if type(value) is not int or value < 0:
        raise BadRequest(
            f"the parameter timeout must be microseconds, an integer, got {name_value(value)}"
        )
    return value * _MICROSECONDS if value else None


class _Binary:
    """The bytes behind the JSON, taken in the order of the inputs."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._offset = 0

    def take(self, spec: TensorSpec, size: object) -> memoryview:
        """Return the next ``size`` bytes."""
        if type(size) is not int or size < 0:
            raise BadRequest(
                f"input {spec.name!r}: binary_data_size must be an integer of at least 0,"
                f" got {name_value(size)}"
            )
        end = self._offset + size
        if end > len(self._data):
            raise BadRequest(
                f"input {spec.name!r}: its binary_data_size is {size}, but only"
                f" {len(self._data) - self._offset} bytes are left of the {len(self._data)} behind"
                " the JSON (Inference-Header-Content-Length says where that ends)"
            )
        data = self._data[self._offset : end]
        self._offset = end
        return data

    def check_end(self) -> None:
        """Check that all has been taken."""
        if self._offset != len(self._data):
            raise BadRequest(
                f"the body has {len(self._data)} bytes behind the JSON, but the binary_data_size"
                f" of its inputs sum up to {self._offset}"
            )


# Nothing can be taken of it, so all requests may share it.
_NO_BINARY: Final = _Binary(memoryview(b""))


class _AsBinary(NamedTuple):
    """Which outputs are wanted as binary tensors."""

    by_default: bool
    by_name: Mapping[str, bool]

    def wanted(self, name: str) -> bool:
        return self.by_name.get(name, self.by_default)


def _encode(
    model: Model,
    request_id: str | None,
    as_binary: _AsBinary,
    outputs: Mapping[str, Array],
    non_finite: NonFinite,
) -> Payload:
    """Encode the answer, in the order of ``outputs``."""
    answer: dict[str, object] = {
        "model_name": model.identity.name,
        "model_version": model.identity.version,
    }
    if request_id is not None:
        answer["id"] = request_id
    tensors: list[dict[str, object]] = []
    parts: list[bytes | memoryview] = []
    for name, array in outputs.items():
        spec = model.output_spec(name)
        tensor: dict[str, object] = {
            "name": name,
            "datatype": spec.datatype.name,
            "shape": list(array.shape),
        }
        parameters: dict[str, object] = {}
        if spec.labels is not None:
            parameters["labels"] = encode_json(spec.labels).decode()
        if as_binary.wanted(name):
            part = to_bytes(spec, array)
            parts.append(part)
            parameters["binary_data_size"] = len(part)
        else:
            tensor["data"] = to_json_ready(spec, array.reshape(-1), non_finite)
        if parameters:
            tensor["parameters"] = parameters
        tensors.append(tensor)
    answer["outputs"] = tensors
    header = encode_json(answer)
    if not parts:
        return Payload((header,))
    length = (b"inference-header-content-length", b"%d" % len(header))
    return Payload((header, *parts), BINARY, (length,))


def _split(body: Body) -> tuple[bytes | memoryview, _Binary]:
    """Return the JSON and the binary tensors behind it."""
    if body.header_length is None:
        return body.content, _NO_BINARY
    if body.header_length > len(body.content):
        raise BadRequest(
            f"Inference-Header-Content-Length is {body.header_length}, but the body has only"
            f" {len(body.content)} bytes"
        )
    view = memoryview(body.content)
    return view[: body.header_length], _Binary(view[body.header_length :])


def _decode_raw(model: Model, content: bytes) -> Call[Payload]:
    """Decode a body that is one tensor and nothing else; its shape is that of the input.

    It has nowhere to say how the outputs should come: they come as binary tensors, as Triton's do.
    """
    if len(model.signature.inputs) != 1:
        raise BadRequest(
            "a raw body (Inference-Header-Content-Length: 0) is for models with one input, this"
            f" one has {len(model.signature.inputs)}"
        )
    (spec,) = model.signature.inputs
    if spec.datatype.kind == "O":
        shape = [1] * len(spec.wire_shape)
        check_shape(spec, shape)
        array = one_string(spec, content).reshape(shape)
    else:
        array = from_bytes(spec, content, _raw_shape(spec, len(content)))
    return Call({spec.name: array}, partial(_encode, model, None, _AsBinary(True, {})))


def _raw_shape(spec: TensorSpec, size: int) -> list[int]:
    """Return the shape of a raw tensor: one symbolic dimension follows from the size.

    With several the first is the batch, and a raw body is one row.
    """
    shape = list(spec.wire_shape)
    if shape.count(-1) > 1 and shape[0] == -1:
        shape[0] = 1
    if shape.count(-1) > 1:
        raise BadRequest(
            f"input {spec.name!r} has the shape {spec.wire_shape}, which the size of a raw body"
            " does not determine: send a JSON header with the shape"
        )
    if -1 in shape:
        axis = shape.index(-1)
        known = math.prod(shape[:axis] + shape[axis + 1 :]) * spec.datatype.dtype.itemsize
        if known == 0 or size % known:
            raise BadRequest(
                f"input {spec.name!r} has the shape {spec.wire_shape}: a raw body must be a"
                f" multiple of {known} bytes, got {size}"
            )
        shape[axis] = size // known
    return shape


def _named(tensor: object) -> tuple[str, dict[str, Any]]:
    if not isinstance(tensor, dict):
        raise BadRequest(f"each of inputs must be an object, got {name_value(tensor)}")
    fields = cast("dict[str, Any]", tensor)
    name = fields.get("name")
    if not isinstance(name, str):
        raise BadRequest(f"each of inputs must have a name, got {name_value(name)}")
    return name, fields


def _decode_input(spec: TensorSpec, tensor: dict[str, Any], binary: _Binary) -> Array:
    parameters = _parameters(tensor, "input", spec.name)
    if "shared_memory_region" in parameters:
        raise BadRequest(f"input {spec.name!r}: shared memory is not supported, send data")
    check_datatype(spec, tensor.get("datatype"))
    shape = check_sizes(spec, tensor.get("shape"))
    if "binary_data_size" in parameters:
        if "data" in tensor:
            raise BadRequest(f"input {spec.name!r} has both data and binary_data_size")
        return from_bytes(spec, binary.take(spec, parameters["binary_data_size"]), shape)
    if "data" not in tensor:
        raise BadRequest(f"input {spec.name!r} has no data")
    return from_row_major(spec, tensor["data"], shape)


def check_datatype(spec: TensorSpec, datatype: object) -> None:
    """Check the datatype that a request states.

    Raises:
        BadRequest: it is not the input's.
    """
    if datatype != spec.datatype.name:
        raise BadRequest(
            f"input {spec.name!r} has the datatype {spec.datatype.name}, got {name_value(datatype)}"
        )


def check_sizes(spec: TensorSpec, value: object) -> list[int]:
    """Check the shape that a request states, and return it.

    Raises:
        BadRequest: it is no shape, or not one that the input can have.
    """
    if not isinstance(value, list):
        raise BadRequest(
            f"input {spec.name!r}: shape must be a list of integers, got {name_value(value)}"
        )
    sizes = cast("list[object]", value)
    if len(sizes) > _MAX_RANK:
        raise BadRequest(
            f"input {spec.name!r}: the shape has {len(sizes)} dimensions, up to {_MAX_RANK} may be"
        )
    total = 1
    for size in sizes:
        if type(size) is not int or size < 0:
            raise BadRequest(
                f"input {spec.name!r}: shape must hold integers of at least 0,"
                f" got {name_value(size)}"
            )
        total *= size or 1
    if total > (_MAX_EMPTY_SIZE if 0 in sizes else _MAX_SHAPE_SIZE):
        raise BadRequest(f"input {spec.name!r}: the shape {sizes} is too large")
    shape = cast("list[int]", sizes)
    check_shape(spec, shape)
    return shape


def _requested_outputs(
    model: Model, value: object, *, by_default: bool
) -> tuple[list[str] | None, _AsBinary]:
    if value is None or value == []:
        return None, _AsBinary(by_default, {})
    if not isinstance(value, list):
        raise BadRequest(f"outputs must be a list of objects, got {name_value(value)}")
    names: list[str] = []
    binary: dict[str, bool] = {}
    for output in cast("list[object]", value):
        name = cast("dict[str, object]", output).get("name") if isinstance(output, dict) else None
        if not isinstance(name, str):
            raise BadRequest("each of outputs must be an object with a name")
        parameters = _parameters(cast("dict[str, object]", output), "output", name)
        if parameters.get("classification"):
            raise BadRequest(f"output {name!r}: the classification extension is not supported")
        if "shared_memory_region" in parameters:
            raise BadRequest(f"output {name!r}: shared memory is not supported")
        if "binary_data" in parameters:
            binary[name] = _flag(parameters, "binary_data")
        names.append(name)
    model.check_outputs(names)
    return names, _AsBinary(by_default, binary)


def _flag(parameters: Mapping[str, object], name: str) -> bool:
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise BadRequest(f"the parameter {name} must be true or false, got {name_value(value)}")
    return value


def _request_id(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise BadRequest(f"id must be a string, got {name_value(value)}")


def _parameters(holder: Mapping[str, object], kind: str, name: str = "") -> dict[str, object]:
    value = holder.get("parameters")
    if value is None:
        return {}
    if not isinstance(value, dict):
        of = f"{kind} {name!r}" if name else kind
        raise BadRequest(f"the parameters of {of} must be an object, got {name_value(value)}")
    return cast("dict[str, object]", value)

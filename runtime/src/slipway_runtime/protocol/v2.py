"""The Open Inference Protocol, version 2, in JSON."""

from __future__ import annotations

from typing import Any, Final, cast

from slipway_runtime.errors import BadRequest, UnknownResource
from slipway_runtime.inference.model import Model, ModelIdentity
from slipway_runtime.inference.tensors import (
    Array,
    TensorSpec,
    check_names,
    check_shape,
    from_row_major,
    name_value,
    to_json_ready,
)
from slipway_runtime.protocol.request import InferRequest, encode_json, parse_json

PLATFORM: Final = "onnxruntime_onnx"
_MAX_SHAPE_SIZE: Final = 2**40


def check_model(identity: ModelIdentity, name: str, version: str | None) -> None:
    """Check that a path names the model that is served; ``1`` and no version mean the digest's.

    Raises:
        UnknownResource: another name or version.
    """
    if name != identity.name:
        raise UnknownResource(f"there is no model {name[:200]!r} here, only {identity.name!r}")
    if version not in (None, "", "1", identity.version):
        raise UnknownResource(
            f"model {name!r} has no version {str(version)[:200]!r}, only {identity.version!r}"
            " (the first 12 digits of its digest; '1' means the same)"
        )


def model_metadata(model: Model) -> dict[str, object]:
    """Return the answer of GET /v2/models/{model}."""
    return {
        "name": model.identity.name,
        "versions": [model.identity.version],
        "platform": PLATFORM,
        "inputs": [_tensor_metadata(spec) for spec in model.signature.inputs],
        "outputs": [_tensor_metadata(spec) for spec in model.signature.outputs],
    }


def decode(model: Model, body: bytes) -> InferRequest:
    """Decode the body of an infer request.

    Raises:
        BadRequest: it is malformed or does not fit the model's inputs; says which and why.
    """
    document = parse_json(body)
    if not isinstance(document, dict):
        raise BadRequest(f"the body must be an object with inputs, got {name_value(document)}")
    request = cast("dict[str, object]", document)
    tensors = request.get("inputs")
    if not isinstance(tensors, list):
        raise BadRequest(
            "inputs must be a list of objects with name, shape, datatype and data,"
            f" got {name_value(tensors)}"
        )
    specs = {spec.name: spec for spec in model.signature.inputs}
    given = [_named(tensor) for tensor in cast("list[object]", tensors)]
    check_names(model.signature, [name for name, _ in given])
    inputs = {name: _decode_input(specs[name], tensor) for name, tensor in given}
    return InferRequest(
        inputs=inputs,
        outputs=_requested_outputs(model, request.get("outputs")),
        id=_request_id(request.get("id")),
        parameters=_parameters(request.get("parameters"), "the request"),
    )


def encode(model: Model, request: InferRequest, outputs: dict[str, Array]) -> bytes:
    """Encode the answer, in the order of ``outputs``.

    Raises:
        UnrepresentableOutput: an output holds NaN, infinities or bytes that are not UTF-8.
    """
    answer: dict[str, object] = {
        "model_name": model.identity.name,
        "model_version": model.identity.version,
    }
    if request.id is not None:
        answer["id"] = request.id
    answer["outputs"] = [
        {
            "name": name,
            "datatype": model.output_spec(name).datatype.name,
            "shape": list(array.shape),
            "data": to_json_ready(name, array.reshape(-1)),
        }
        for name, array in outputs.items()
    ]
    return encode_json(answer)


def _tensor_metadata(spec: TensorSpec) -> dict[str, object]:
    return {"name": spec.name, "datatype": spec.datatype.name, "shape": spec.wire_shape}


def _named(tensor: object) -> tuple[str, dict[str, Any]]:
    if not isinstance(tensor, dict):
        raise BadRequest(f"each of inputs must be an object, got {name_value(tensor)}")
    fields = cast("dict[str, Any]", tensor)
    name = fields.get("name")
    if not isinstance(name, str):
        raise BadRequest(f"each of inputs must have a name, got {name_value(name)}")
    return name, fields


def _decode_input(spec: TensorSpec, tensor: dict[str, Any]) -> Array:
    parameters = _parameters(tensor.get("parameters"), f"input {spec.name!r}")
    if "binary_data_size" in parameters:
        raise BadRequest(
            f"input {spec.name!r}: binary tensors are not supported by this version, send data"
        )
    if "shared_memory_region" in parameters:
        raise BadRequest(f"input {spec.name!r}: shared memory is not supported, send data")
    datatype = tensor.get("datatype")
    if datatype != spec.datatype.name:
        raise BadRequest(
            f"input {spec.name!r} has the datatype {spec.datatype.name}, got {name_value(datatype)}"
        )
    shape = _shape(spec, tensor.get("shape"))
    check_shape(spec, shape)
    if "data" not in tensor:
        raise BadRequest(f"input {spec.name!r} has no data")
    return from_row_major(spec, tensor["data"], shape)


def _shape(spec: TensorSpec, value: object) -> list[int]:
    if not isinstance(value, list):
        raise BadRequest(
            f"input {spec.name!r}: shape must be a list of integers, got {name_value(value)}"
        )
    sizes = cast("list[object]", value)
    total = 1
    for size in sizes:
        if type(size) is not int or size < 0:
            raise BadRequest(
                f"input {spec.name!r}: shape must hold integers of at least 0,"
                f" got {name_value(size)}"
            )
        total *= size
    if total > _MAX_SHAPE_SIZE:
        raise BadRequest(f"input {spec.name!r}: the shape {sizes} is too large")
    return cast("list[int]", sizes)


def _requested_outputs(model: Model, value: object) -> list[str] | None:
    if value is None or value == []:
        return None
    if not isinstance(value, list):
        raise BadRequest(f"outputs must be a list of objects, got {name_value(value)}")
    names: list[str] = []
    for output in cast("list[object]", value):
        name = cast("dict[str, object]", output).get("name") if isinstance(output, dict) else None
        if not isinstance(name, str):
            raise BadRequest("each of outputs must be an object with a name")
        parameters = _parameters(
            cast("dict[str, object]", output).get("parameters"), f"output {name!r}"
        )
        if parameters.get("binary_data") is True:
            raise BadRequest(f"output {name!r}: binary tensors are not supported by this version")
        if parameters.get("classification"):
            raise BadRequest(f"output {name!r}: the classification extension is not supported")
        names.append(name)
    model.check_outputs(names)
    return names


def _request_id(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise BadRequest(f"id must be a string, got {name_value(value)}")


def _parameters(value: object, of: str) -> dict[str, object]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequest(f"the parameters of {of} must be an object, got {name_value(value)}")
    return cast("dict[str, object]", value)

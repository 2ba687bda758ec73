"""The OpenAPI document of the loaded model.

FastAPI carries it and nothing else: its import costs more than most models' load, and its work per
request more than a small model's run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from fastapi import FastAPI, Response

from slipway_runtime import __version__
from slipway_runtime.inference.model import Model
from slipway_runtime.inference.tensors import Shape, TensorSpec
from slipway_runtime.protocol import examples
from slipway_runtime.protocol.examples import Examples
from slipway_runtime.protocol.request import encode_json
from slipway_runtime.server.access import OPEN

_JSON: Final = "application/json"
_BINARY: Final = "application/octet-stream"
_JSON_TYPES: Final = {
    "b": "boolean",
    "i": "integer",
    "u": "integer",
    "f": "number",
    "O": "string",
}
_UNAUTHORIZED: Final = 401
_FAILURES: Final[Mapping[int, str]] = {
    400: "The body does not fit the model's inputs, or the model cannot run on them",
    _UNAUTHORIZED: "No token, or an unknown one",
    404: "No such model, version or route",
    408: "The head or the body took too long to arrive",
    413: "The body is too large",
    415: "An unknown content type or encoding",
    422: "An output has no JSON form",
    429: "The queue is full; Retry-After says when to come back",
    500: "ONNX Runtime failed, or a defect",
    501: "A part of the protocol that this server leaves out",
    503: "Loading or draining; Retry-After says when to come back",
    504: "The deadline has passed",
}
_HEADER_LENGTH: Final = "Inference-Header-Content-Length"
_IN_BINARY: Final = (
    "JSON, followed by the bytes of the binary tensors in the order of the inputs;"
    f" {_HEADER_LENGTH} is the length of the JSON; 0 means that the body is one raw tensor"
)
_TOKEN: Final = "token"  # noqa: S105 - the name of the scheme


def application(model: Model, given: Examples | None, *, tokens: bool) -> FastAPI:
    """Return the application with /openapi.json; for the arguments see `document`."""
    # As bytes, since it may be a megabyte: nobody's request waits for its encoding.
    content = encode_json(document(model, given, tokens=tokens))

    async def send() -> Response:
        return Response(content, media_type=_JSON)

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.add_api_route("/openapi.json", send, methods=["GET", "HEAD"])
    return app


def document(model: Model, given: Examples | None, *, tokens: bool) -> dict[str, Any]:
    """Return the OpenAPI document with the model's own names, datatypes and shapes.

    ``given`` are the examples' values, None where they would be too large; ``tokens`` says that
    requests must bring one.
    """
    name = model.identity.name
    described: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": f"{name} on Slipway",
            "version": model.identity.version,
            "description": f"Serves {model.identity.digest} by slipway-runtime {__version__}.",
        },
        "paths": {
            "/": {"get": _page("A page that shows the model")},
            "/docs": {"get": _page("A page that shows this document")},
            "/predict": {"post": _predict(model, given)},
            f"/v2/models/{name}/infer": {"post": _infer(model, given)},
            f"/v1/models/{name}:predict": {"post": _tensorflow(given)},
            "/invocations": {"post": _mlflow(model, given)},
            f"/v2/models/{name}/config": {"get": _get("The model as Triton configures it")},
            f"/v2/models/{name}/stats": {"get": _get("Counts and times of inference")},
            f"/v2/models/{name}": {"get": _get("Inputs and outputs of the model")},
            f"/v2/models/{name}/ready": {"get": _get("Whether the model is ready", 503)},
            "/v2": {"get": _get("Name and version of the server")},
            "/v2/health/live": {"get": _get("Whether the process lives")},
            "/v2/health/ready": {"get": _get("Whether the server is ready", 503)},
            "/ping": {"get": _get("Whether the server is ready", 503)},
            "/health": {"get": _get("Phase, digest and providers", 503)},
            "/metrics": {"get": _get("Prometheus metrics")},
        },
        "components": {
            "schemas": {
                "Error": {
                    "type": "object",
                    "required": ["error"],
                    "properties": {"error": {"type": "string"}},
                }
            }
        },
    }
    if tokens:
        _ask_for_tokens(described)
    return described


def _ask_for_tokens(described: dict[str, Any]) -> None:
    described["components"]["securitySchemes"] = {_TOKEN: {"type": "http", "scheme": "bearer"}}
    described["security"] = [{_TOKEN: []}]
    for path, methods in described["paths"].items():
        for operation in methods.values():
            if path in OPEN:
                operation["security"] = []
            else:
                operation["responses"] |= _errors([_UNAUTHORIZED])


def _get(summary: str, *statuses: int) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": {"description": "OK"}, **_errors(statuses)}}


def _page(summary: str) -> dict[str, Any]:
    answer = {"description": "HTML", "content": {"text/html": {"schema": {"type": "string"}}}}
    return {"summary": summary, "responses": {"200": answer}}


def _errors(statuses: Iterable[int]) -> dict[str, Any]:
    content = {_JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        str(status): {"description": _FAILURES[status], "content": content} for status in statuses
    }


def _post(
    summary: str,
    content: Mapping[str, Any],
    answers: Mapping[str, Any],
    given: Examples | None,
    description: str = "",
) -> dict[str, Any]:
    """Return an inference route; ``content`` and ``answers`` are by media type."""
    body: dict[str, Any] = {"required": True, "content": content}
    if given is None:
        body["description"] = "The inputs are too large for an example."
    failures = _errors(status for status in _FAILURES if status != _UNAUTHORIZED)
    operation: dict[str, Any] = {
        "summary": summary,
        "requestBody": body,
        "responses": {"200": {"description": "OK", "content": answers}, **failures},
    }
    return operation | ({"description": description} if description else {})


def _media(schema: dict[str, Any], example: object = None) -> dict[str, Any]:
    return {"schema": schema} | ({} if example is None else {"example": example})


def _predict(model: Model, given: Examples | None) -> dict[str, Any]:
    inputs = model.signature.inputs
    schema = {
        "type": "object",
        "required": [spec.name for spec in inputs],
        "properties": {spec.name: _nested_schema(spec) for spec in inputs},
    }
    answer = {
        "type": "object",
        "properties": {spec.name: _answered_schema(spec) for spec in model.signature.outputs},
    }
    example = None if given is None else examples.by_name(given)
    return _post(
        "Predict",
        {_JSON: _media(schema, example)},
        {_JSON: _media(answer)},
        given,
        "One row without its batch dimension is answered without one.",
    )


def _by_columns(given: Examples | None) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {"inputs": {"type": "object"}, "instances": {"type": "array"}},
    }
    return _media(schema, None if given is None else examples.by_columns(given))


def _tensorflow(given: Examples | None) -> dict[str, Any]:
    content = {_JSON: _by_columns(given)}
    answers = {_JSON: _media({"type": "object"})}
    return _post("Predict, as TensorFlow Serving", content, answers, given)


def _mlflow(model: Model, given: Examples | None) -> dict[str, Any]:
    table = None if given is None else examples.as_csv(model, given)
    columns = {"type": "string", "description": "Rows under the names of their columns"}
    content = {_JSON: _by_columns(given), "text/csv": _media(columns, table)}
    return _post("Predict, as MLflow", content, {_JSON: _media({"type": "object"})}, given)


def _infer(model: Model, given: Examples | None) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": ["string", "null"]},
            "inputs": {"type": "array", "items": {"type": "object"}},
            "outputs": {
                "type": ["array", "null"],
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": {"type": "string"}},
                },
            },
        },
    }
    binary = {"type": "string", "format": "binary", "description": _IN_BINARY}
    operation = _post(
        "Infer, by the Open Inference Protocol v2",
        {
            _JSON: _media(schema, None if given is None else examples.infer(model, given)),
            _BINARY: _media(binary),
        },
        {_JSON: _media({"type": "object"}), _BINARY: _media(binary)},
        given,
    )
    length = {"type": "integer", "minimum": 0}
    told = {"description": "The length of the JSON in front of binary tensors", "schema": length}
    operation["parameters"] = [{"name": _HEADER_LENGTH, "in": "header", **told}]
    operation["responses"]["200"]["headers"] = {_HEADER_LENGTH: told}
    return operation


def _nested_schema(spec: TensorSpec) -> dict[str, Any]:
    if spec.shape is None:
        # A scalar, or of a shape that the model does not tell.
        return {"description": spec.datatype.name}
    return _array_schema(spec, spec.shape) | {
        "description": f"{spec.datatype.name} {spec.wire_shape}"
    }


def _array_schema(spec: TensorSpec, shape: Shape) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": _JSON_TYPES[spec.datatype.kind]}
    for size in reversed(shape):
        schema = {"type": "array", "items": schema}
        if size is not None:
            schema |= {"minItems": size, "maxItems": size}
    return schema


def _answered_schema(spec: TensorSpec) -> dict[str, Any]:
    """Of an output as /predict answers it: for several rows, or for one alone."""
    if spec.is_map:
        labels = spec.labels or ()
        row: dict[str, Any] = {
            "type": "object",
            "properties": {label: {"type": "number"} for label in labels},
            "required": list(labels),
        }
        rows: dict[str, Any] = {"type": "array", "items": row}
    elif spec.shape is not None and spec.batchable and spec.has_rows:
        row, rows = _array_schema(spec, spec.shape[1:]), _array_schema(spec, spec.shape)
    else:
        return _nested_schema(spec)
    return {"anyOf": [rows, row], "description": f"{spec.datatype.name} {spec.wire_shape}"}

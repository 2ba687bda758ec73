"""The OpenAPI document of the loaded model and the pages that show it.

FastAPI carries only these pages: its import costs more than most models' load, and its work per
request more than a small model's run.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from slipway_runtime import __version__
from slipway_runtime.inference.model import Model
from slipway_runtime.inference.tensors import TensorSpec

_JSON_TYPES = {"b": "boolean", "i": "integer", "u": "integer", "f": "number", "O": "string"}
_EXAMPLE_ELEMENTS = 1024


def pages(model: Model) -> FastAPI:
    """Return the application with /docs, /redoc and /openapi.json."""
    app = FastAPI(title=f"{model.identity.name} on Slipway", version=model.identity.version)
    described = document(model)
    app.openapi = lambda: described
    return app


def document(model: Model) -> dict[str, Any]:
    """Return the OpenAPI document with the model's own names, datatypes and shapes."""
    name = model.identity.name
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"{name} on Slipway",
            "version": model.identity.version,
            "description": f"Serves {model.identity.digest} by slipway-runtime {__version__}.",
        },
        "paths": {
            "/": {"get": _page()},
            "/predict": {"post": _predict(model)},
            f"/v2/models/{name}/infer": {"post": _infer(model)},
            f"/v1/models/{name}:predict": {"post": _rows(model, "Predict, as TensorFlow Serving")},
            "/invocations": {"post": _rows(model, "Predict, as MLflow")},
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


def _get(summary: str, *statuses: int) -> dict[str, Any]:
    return {"summary": summary, "responses": _responses(None, statuses)}


def _page() -> dict[str, Any]:
    answer = {"description": "HTML", "content": {"text/html": {"schema": {"type": "string"}}}}
    return {"summary": "A page that shows the model", "responses": {"200": answer}}


def _responses(schema: dict[str, Any] | None, statuses: tuple[int, ...]) -> dict[str, Any]:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    ok: dict[str, Any] = {"description": "OK"}
    if schema is not None:
        ok["content"] = {"application/json": {"schema": schema}}
    answers: dict[str, Any] = {"200": ok}
    for status in statuses:
        answers[str(status)] = {"description": "An error", "content": error}
    return answers


_FAILURES = (400, 413, 415, 422, 429, 500, 503)


def _predict(model: Model) -> dict[str, Any]:
    inputs = model.signature.inputs
    schema = {
        "type": "object",
        "required": [spec.name for spec in inputs],
        "properties": {spec.name: _nested_schema(spec) for spec in inputs},
    }
    example = {spec.name: _nested_example(spec) for spec in inputs}
    answer = {
        "type": "object",
        "properties": {spec.name: _nested_schema(spec) for spec in model.signature.outputs},
    }
    return {
        "summary": "Predict",
        "description": "One row without its batch dimension is answered without one.",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema, "example": example}},
        },
        "responses": _responses(answer, _FAILURES),
    }


def _rows(model: Model, summary: str) -> dict[str, Any]:
    example = {"inputs": {spec.name: _nested_example(spec) for spec in model.signature.inputs}}
    schema = {
        "type": "object",
        "properties": {"inputs": {"type": "object"}, "instances": {"type": "array"}},
    }
    return {
        "summary": summary,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema, "example": example}},
        },
        "responses": _responses({"type": "object"}, _FAILURES),
    }


def _infer(model: Model) -> dict[str, Any]:
    example = {"inputs": [_v2_example(spec) for spec in model.signature.inputs]}
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
    return {
        "summary": "Infer, by the Open Inference Protocol v2",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema, "example": example}},
        },
        "responses": _responses({"type": "object"}, _FAILURES),
    }


def _nested_schema(spec: TensorSpec) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": _JSON_TYPES[spec.datatype.kind]}
    for size in reversed(spec.shape or ()):
        schema = {"type": "array", "items": schema}
        if size is not None:
            schema |= {"minItems": size, "maxItems": size}
    return schema | {"description": f"{spec.datatype.name} {spec.wire_shape}"}


def _example_shape(spec: TensorSpec) -> list[int]:
    return [1 if size is None else size for size in spec.shape or ()]


def _zero(spec: TensorSpec) -> Any:
    return {"b": False, "f": 0.0, "O": ""}.get(spec.datatype.kind, 0)


def _nested_example(spec: TensorSpec) -> Any:
    value = _zero(spec)
    total = 1
    for size in reversed(_example_shape(spec)):
        total *= size
        if total > _EXAMPLE_ELEMENTS:
            return "too large for an example"
        value = [value] * size
    return value


def _v2_example(spec: TensorSpec) -> dict[str, Any]:
    shape = _example_shape(spec)
    total = 1
    for size in shape:
        total *= size
    data = [_zero(spec)] * total if total <= _EXAMPLE_ELEMENTS else []
    return {"name": spec.name, "shape": shape, "datatype": spec.datatype.name, "data": data}

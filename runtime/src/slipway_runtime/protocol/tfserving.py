"""TensorFlow Serving's REST form of prediction: by row (instances) and by column (inputs).

| request                             | answer                      |
|-------------------------------------|-----------------------------|
| ``{"instances": [value, …]}``       | ``{"predictions": [value, …]}`` |
| ``{"instances": [{name: value}, …]}`` | the same                  |
| ``{"inputs": value}``               | ``{"outputs": value}``      |
| ``{"inputs": {name: value, …}}``    | the same                    |

A value of several outputs is an object by output name. Strings may come as ``{"b64": "…"}``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from functools import partial
from typing import Final, cast

from slipway_runtime.errors import BadRequest
from slipway_runtime.inference.json_values import NonFinite, name_value
from slipway_runtime.inference.model import Model, ModelIdentity
from slipway_runtime.inference.tensors import Array
from slipway_runtime.protocol.request import Body, Call, Payload, json_payload, parse_json
from slipway_runtime.protocol.values import from_columns, from_rows, to_columns, to_rows

_SIGNATURES: Final = (None, "", "serving_default", "predict")
_MAX_DEPTH: Final = 40
_MEMBERS: Final = ("signature_name", "instances", "inputs")


def decode(model: Model, body: Body) -> Call[Payload]:
    """Decode a body by row or by column.

    Raises:
        BadRequest: it is neither, or the values do not fit the model's inputs.
    """
    document = parse_json(body.content)
    fields = cast("dict[str, object]", document) if isinstance(document, dict) else {}
    unknown = [name for name in fields if name not in _MEMBERS]
    if ("instances" in fields) == ("inputs" in fields) or unknown:
        raise BadRequest(
            "the body must be an object with either instances (a list of rows) or inputs (values by"
            " input name), and signature_name if need be; got "
            + _shown(cast("object", document), unknown)
        )
    signature = fields.get("signature_name")
    if signature not in _SIGNATURES:
        raise BadRequest(
            f"there is no signature {name_value(signature)}: an ONNX model has one, serving_default"
        )
    if "instances" in fields:
        inputs = from_rows(model, _plain(fields["instances"]), "instances")
        return Call(inputs, partial(_encode_rows, model))
    inputs = from_columns(model, _plain(fields["inputs"]), "inputs")
    return Call(inputs, partial(_encode_columns, model))


def status(identity: ModelIdentity, *, ready: bool) -> dict[str, object]:
    """Return the answer of GET /v1/models/{model}."""
    return {
        "model_version_status": [
            {
                "version": identity.version,
                "state": "AVAILABLE" if ready else "UNLOADING",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }


def _encode_rows(model: Model, outputs: Mapping[str, Array], non_finite: NonFinite) -> Payload:
    return json_payload({"predictions": to_rows(model, outputs, non_finite)})


def _encode_columns(model: Model, outputs: Mapping[str, Array], non_finite: NonFinite) -> Payload:
    return json_payload({"outputs": to_columns(model, outputs, non_finite)})


def _plain(value: object, depth: int = 0) -> object:
    """Return the value with every ``{"b64": …}`` decoded to its string."""
    if depth > _MAX_DEPTH:
        raise BadRequest(f"values are nested more than {_MAX_DEPTH} deep")
    if isinstance(value, list):
        items = cast("list[object]", value)
        # Numbers are most of all bodies: do not visit them one by one.
        if not {list, dict}.isdisjoint(map(type, items)):
            return [_plain(item, depth + 1) for item in items]
        return items
    if isinstance(value, dict):
        fields = cast("dict[str, object]", value)
        if list(fields) == ["b64"]:
            return _decoded(fields["b64"])
        return {name: _plain(item, depth + 1) for name, item in fields.items()}
    return value


def _decoded(value: object) -> str:
    try:
        return base64.b64decode(cast("str", value), validate=True).decode("utf-8")
    except (TypeError, ValueError, binascii.Error):
        raise BadRequest(
            "a value of b64 is not the Base64 of UTF-8 text; ONNX Runtime takes no other strings"
        ) from None


def _shown(document: object, unknown: list[str]) -> str:
    if unknown:
        return f"the member {unknown[0][:100]!r}"
    return name_value(document)

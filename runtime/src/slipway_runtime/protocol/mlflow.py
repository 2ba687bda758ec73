"""MLflow's /invocations: data frames by column name, tensors by input name, CSV.

The answer is ``{"predictions": value}``; with several outputs the value is an object by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, TypeAlias, cast

from slipway_runtime.errors import BadRequest
from slipway_runtime.inference.json_values import NonFinite
from slipway_runtime.inference.model import Model
from slipway_runtime.inference.tensors import Array
from slipway_runtime.protocol import frames
from slipway_runtime.protocol.request import Body, Call, Payload, json_payload, parse_json
from slipway_runtime.protocol.values import from_columns, from_rows, to_columns

CSV: Final = b"text/csv"

_Form: TypeAlias = Callable[[Model, object, str], dict[str, Array]]


def decode(model: Model, body: Body) -> Call[Payload]:
    """Decode a body in any of MLflow's forms.

    Raises:
        BadRequest: it has none of them, or the values do not fit the model's inputs.
    """
    if body.kind == CSV:
        inputs = frames.to_inputs(model, frames.from_csv(body.content))
    else:
        inputs = _from_json(model, parse_json(body.content))
    return Call(inputs, partial(_encode, model))


def _from_json(model: Model, document: object) -> dict[str, Array]:
    fields = cast("dict[str, object]", document) if isinstance(document, dict) else {}
    if fields.get("params"):
        raise BadRequest("this model takes no params")
    forms = [name for name in fields if name != "params"]
    if len(forms) != 1 or forms[0] not in _FORMS:
        raise BadRequest(
            f"the body must be an object with one of {', '.join(_FORMS)}; or CSV, as text/csv"
        )
    return _FORMS[forms[0]](model, fields[forms[0]], forms[0])


def _split(model: Model, value: object, member: str) -> dict[str, Array]:
    return frames.to_inputs(model, frames.from_split(value, member))


def _records(model: Model, value: object, member: str) -> dict[str, Array]:
    return frames.to_inputs(model, frames.from_records(value, member))


_FORMS: Final[Mapping[str, _Form]] = {
    "dataframe_split": _split,
    "dataframe_records": _records,
    "instances": from_rows,
    "inputs": from_columns,
}


def _encode(model: Model, outputs: Mapping[str, Array], non_finite: NonFinite) -> Payload:
    return json_payload({"predictions": to_columns(model, outputs, non_finite)})

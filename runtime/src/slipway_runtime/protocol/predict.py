"""POST /predict: the everyday form, for people and short scripts.

| request                      | for                                    | answer                |
|------------------------------|----------------------------------------|-----------------------|
| ``[…]``                      | models with one input: one row or many | by output name        |
| ``{"<input name>": …, …}``   | any model                              | by output name        |
| ``{"inputs": {name: …, …}}`` | any model                              | by output name        |
| ``{"features": …}``          | models with one input                  | by output name        |
| ``{"input": …}``             | models with one input                  | ``{"prediction": …}`` |
| ``{"records": [{…}, …]}``    | models whose columns have names        | by output name        |

A value with one dimension less than the model's input is one row, and so is a bare value for an
input of [-1, 1], the cell of a table: the batch dimension is added, and taken off those outputs
again that have one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final, cast

from slipway_runtime.errors import BadRequest
from slipway_runtime.inference.json_values import NonFinite, from_nested, name_value
from slipway_runtime.inference.model import Model
from slipway_runtime.inference.tensors import Array, TensorSpec, check_names, check_shape
from slipway_runtime.protocol import frames
from slipway_runtime.protocol.request import Body, Call, Payload, json_payload, parse_json
from slipway_runtime.protocol.values import to_plain

_PREDICTION: Final = "prediction"


def decode(model: Model, body: Body) -> Call[Payload]:
    """Decode a body in any of the forms.

    Raises:
        BadRequest: no form fits, or the values do not fit the model's inputs.
    """
    document = parse_json(body.content)
    records = _records(model, document)
    if records is not None:
        return Call(frames.to_inputs(model, records), partial(_encode, model, False, False))
    values, as_prediction = _by_name(model, document)
    check_names(model.signature, list(values))
    inputs: dict[str, Array] = {}
    rows: dict[str, bool] = {}
    for spec in model.signature.inputs:
        array = from_nested(spec, values[spec.name])
        row = _as_batch(spec, array)
        if row is not None:
            array = row
            rows[spec.name] = True
        elif spec.batchable:
            rows[spec.name] = False
        check_shape(spec, array.shape)
        inputs[spec.name] = array
    if len(set(rows.values())) > 1:
        single = [repr(name) for name, row in rows.items() if row]
        several = [repr(name) for name, row in rows.items() if not row]
        raise BadRequest(
            f"{', '.join(single)} came as one row and {', '.join(several)} as a batch:"
            " give all inputs a batch dimension, or none"
        )
    return Call(inputs, partial(_encode, model, any(rows.values()), as_prediction))


def _encode(
    model: Model,
    unbatched: bool,
    as_prediction: bool,
    outputs: Mapping[str, Array],
    non_finite: NonFinite,
) -> Payload:
    """Encode the answer; ``unbatched`` takes the batch dimension off again."""
    answer: dict[str, object] = {}
    for name, array in outputs.items():
        spec = model.output_spec(name)
        row = unbatched and array.ndim > 0 and array.shape[0] == 1
        has_batch_axis = spec.has_rows and (not spec.shape or spec.shape[0] in (None, 1))
        value = array[0, ...] if row and has_batch_axis else array
        answer[name] = to_plain(spec, value, non_finite)
    if as_prediction:
        only = next(iter(answer.values())) if len(answer) == 1 else answer
        return json_payload({_PREDICTION: only})
    return json_payload(answer)


def _by_name(model: Model, document: object) -> tuple[dict[str, object], bool]:
    """Return the values by input name, and whether the answer is a ``prediction``."""
    names = model.signature.input_names
    if isinstance(document, list):
        if len(names) != 1:
            raise _ambiguous(model, "a bare list does not say which input it is for")
        return {names[0]: cast("object", document)}, False
    if not isinstance(document, dict):
        raise _ambiguous(model, f"the body is {name_value(document)}")
    fields = cast("dict[str, object]", document)
    if not names and not fields:
        return {}, False
    if list(fields) == ["inputs"]:
        return _inputs_form(model, fields["inputs"]), False
    if list(fields) == ["input"] and len(names) == 1:
        return {names[0]: fields["input"]}, True
    if list(fields) == ["features"] and len(names) == 1:
        return {names[0]: fields["features"]}, False
    if any(name in fields for name in names):
        return fields, False
    shown = ", ".join(repr(key[:50]) for key in list(fields)[:5]) or "none"
    raise _ambiguous(model, f"the body is an object with the members {shown}")


def _records(model: Model, document: object) -> frames.Frame | None:
    if not isinstance(document, dict) or "records" in model.signature.input_names:
        return None
    fields = cast("dict[str, object]", document)
    if list(fields) != ["records"]:
        return None
    return frames.from_records(fields["records"], "records")


def _inputs_form(model: Model, value: object) -> dict[str, object]:
    names = model.signature.input_names
    if isinstance(value, dict):
        return cast("dict[str, object]", value)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        raise BadRequest(
            "this looks like the Open Inference Protocol: send it to"
            f" /v2/models/{model.identity.name}/infer"
        )
    if len(names) == 1:
        return {names[0]: value}
    raise _ambiguous(model, f"inputs is {name_value(cast('object', value))}")


def _as_batch(spec: TensorSpec, array: Array) -> Array | None:
    """Return what came as one row with its batch dimension; None where it did not."""
    if not spec.shape or spec.shape[0] not in (None, 1):
        return None
    if array.ndim == 0 and spec.shape[1:] == (1,):
        return array.reshape(1, 1)
    return array[None] if array.ndim == len(spec.shape) - 1 else None


def _ambiguous(model: Model, problem: str) -> BadRequest:
    names = model.signature.input_names
    named = ", ".join(f'"{name}": …' for name in names)
    forms = [f"{{{named}}}", f'{{"inputs": {{{named}}}}}']
    if len(names) == 1:
        forms += ["a bare list", '{"features": …}', '{"input": …}']
    forms.append('{"records": [{column: …}, …]}')
    return BadRequest(f"{problem}; /predict takes {', '.join(forms[:-1])} or {forms[-1]}")

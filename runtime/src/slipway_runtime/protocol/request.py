"""What every protocol makes of a body, and the parsing they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import orjson

from slipway_runtime.errors import BadRequest
from slipway_runtime.inference.tensors import Array


@dataclass(frozen=True)
class InferRequest:
    """One decoded request: arrays by input name, the outputs wanted (None = all), its id."""

    inputs: Mapping[str, Array]
    outputs: list[str] | None = None
    id: str | None = None
    parameters: Mapping[str, object] = field(default_factory=dict[str, object])


def parse_json(body: bytes) -> object:
    """Parse a JSON body; NaN and infinities are refused, integers keep all 64 bits.

    Raises:
        BadRequest: not JSON, or not UTF-8.
    """
    if not body:
        raise BadRequest("the body is empty, expected JSON")
    try:
        return cast("object", orjson.loads(body))
    except orjson.JSONDecodeError as error:
        # orjson decodes lazily, so what is not UTF-8 arrives here too.
        try:
            body.decode("utf-8")
        except UnicodeDecodeError as unicode_error:
            raise BadRequest(
                f"the body is not UTF-8: byte {unicode_error.start} cannot be decoded"
            ) from None
        hint = ""
        if any(word in body for word in (b"NaN", b"Infinity")):
            hint = "; JSON has no NaN and no Infinity"
        raise BadRequest(f"the body is not JSON: {error}{hint}") from None


def encode_json(document: object) -> bytes:
    """Encode an answer; arrays must be contiguous and native (see `to_json_ready`)."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)

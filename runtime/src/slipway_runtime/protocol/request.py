"""What every protocol makes of a body and of its outputs, and the JSON they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar, cast

import orjson

from slipway_runtime.errors import BadRequest
from slipway_runtime.inference.json_values import NonFinite
from slipway_runtime.inference.model import Model
from slipway_runtime.inference.tensors import Array

JSON: Final = b"application/json"
BINARY: Final = b"application/octet-stream"


class Body(NamedTuple):
    """A request's body, inflated.

    ``kind`` is the media type in lower case without parameters, ``header_length`` the length of
    the JSON in front of binary tensors, where the client has told one.
    """

    content: bytes
    kind: bytes = JSON
    header_length: int | None = None


class Payload(NamedTuple):
    """The body of an answer, in parts that are sent one after another."""

    parts: tuple[bytes | memoryview, ...]
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


A = TypeVar("A")


class Call(NamedTuple, Generic[A]):
    """One decoded request: arrays by input name, the outputs wanted (None = all), how to answer.

    ``encode`` makes the answer of the outputs. ``timeout`` is how many seconds the client is
    willing to wait, if it said so.
    """

    inputs: Mapping[str, Array]
    encode: Callable[[Mapping[str, Array], NonFinite], A]
    outputs: list[str] | None = None
    timeout: float | None = None


Decode: TypeAlias = Callable[[Model, Body], Call[Payload]]


def parse_json(body: bytes | memoryview) -> object:
    """Parse a JSON body; NaN and infinities are refused, integers keep all 64 bits.

    Raises:
        BadRequest: not JSON, or not UTF-8.
    """
    if not body:
        raise BadRequest("the body is empty, expected JSON")
    try:
        return cast("object", orjson.loads(body))
    except orjson.JSONDecodeError as error:
        text = bytes(body)
        # orjson decodes lazily, so what is not UTF-8 arrives here too.
        try:
            text.decode("utf-8")
        except UnicodeDecodeError as unicode_error:
            raise BadRequest(
                f"the body is not UTF-8: byte {unicode_error.start} cannot be decoded"
            ) from None
        hint = ""
        if any(word in text for word in (b"NaN", b"Infinity")):
            hint = "; JSON has no NaN and no Infinity"
        raise BadRequest(f"the body is not JSON: {error}{hint}") from None


def encode_json(document: object) -> bytes:
    """Encode an answer; arrays must be contiguous and native (see `to_json_ready`)."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def json_payload(document: object) -> Payload:
    """Return the payload of a JSON answer."""
    return Payload((encode_json(document),))

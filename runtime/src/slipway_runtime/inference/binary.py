"""The codec between arrays and the protocol's binary tensors.

Elements lie in row-major order, little-endian, without padding. Each element of BYTES has its
length in front, four bytes, little-endian.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Sequence
from typing import Final, cast

import numpy as np

from slipway_runtime.errors import BadRequest
from slipway_runtime.inference.tensors import Array, TensorSpec

_LENGTH: Final = struct.Struct("<I")


def from_bytes(spec: TensorSpec, data: bytes | memoryview, shape: Sequence[int]) -> Array:
    """Return the array of this shape that the bytes hold; a view of them where that is possible.

    Raises:
        BadRequest: there are too few or too many bytes, a boolean is neither 0 nor 1, a string is
            not UTF-8 or holds a NUL character.
    """
    count = math.prod(shape)
    if spec.datatype.kind == "O":
        return _strings(spec, memoryview(data), count).reshape(shape)
    dtype = spec.datatype.dtype.newbyteorder("<")
    expected = count * dtype.itemsize
    if len(data) != expected:
        raise BadRequest(
            f"input {spec.name!r}: the shape {list(shape)} of {spec.datatype.name} takes"
            f" {expected} bytes, got {len(data)}"
        )
    if spec.datatype.kind == "b":
        return _booleans(spec, data).reshape(shape)
    array = np.frombuffer(data, dtype=dtype)
    if sys.byteorder != "little":
        array = array.astype(spec.datatype.dtype)
    # Behind a JSON header of any length a tensor may begin at any byte; kernels may not like that.
    return (array if array.flags.aligned else array.copy()).reshape(shape)


def one_string(spec: TensorSpec, data: bytes | memoryview) -> Array:
    """Return a one-element array of BYTES from a raw body, which has no length in front."""
    array = np.empty(1, dtype=np.object_)
    array[0] = text_of(spec, bytes(data), 0)
    return array


def to_bytes(spec: TensorSpec, array: Array) -> bytes | memoryview:
    """Return the bytes of an array; a view of it where that is possible."""
    if spec.datatype.kind == "O":
        return _prefixed(array)
    if array.size == 0:
        return b""
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return np.ascontiguousarray(little).reshape(-1).view(np.uint8).data


def _booleans(spec: TensorSpec, data: bytes | memoryview) -> Array:
    octets = np.frombuffer(data, dtype=np.uint8)
    if octets.size and octets.max() > 1:
        position = int(np.argmax(octets > 1))
        raise BadRequest(
            f"input {spec.name!r}: a BOOL is the byte 0 or 1,"
            f" got {int(octets[position])} at position {position}"
        )
    return octets.view(np.bool_)


def _strings(spec: TensorSpec, data: memoryview, count: int) -> Array:
    # Each string takes four bytes at least: do not allocate for more than the body can hold.
    if count * _LENGTH.size > len(data):
        raise BadRequest(
            f"input {spec.name!r}: {count} strings take at least {count * _LENGTH.size} bytes"
            f" with their lengths, got {len(data)}"
        )
    array = np.empty(count, dtype=np.object_)
    offset = 0
    for position in range(count):
        begin = offset + _LENGTH.size
        length = _LENGTH.unpack_from(data, offset)[0] if begin <= len(data) else 0
        offset = begin + length
        if offset > len(data):
            raise BadRequest(
                f"input {spec.name!r}: the string at position {position} ends at byte {offset},"
                f" but there are {len(data)}"
            )
        array[position] = text_of(spec, bytes(data[begin:offset]), position)
    if offset != len(data):
        raise BadRequest(
            f"input {spec.name!r}: {len(data) - offset} bytes are left after its {count} strings"
        )
    return array


def text_of(spec: TensorSpec, data: bytes, position: int) -> str:
    """Return one element of BYTES as text.

    Raises:
        BadRequest: it is not UTF-8, or holds a NUL character.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise BadRequest(
            f"input {spec.name!r}: the string at position {position} is not UTF-8, and ONNX"
            " Runtime takes no other"
        ) from None
    if "\0" in text:
        # ONNX Runtime's Python binding ends a string at the first NUL.
        raise BadRequest(
            f"input {spec.name!r}: the string at position {position} holds a NUL character"
        )
    return text


def _prefixed(array: Array) -> bytes:
    parts: list[bytes] = []
    for item in cast("list[str | bytes]", array.reshape(-1).tolist()):
        data = item if isinstance(item, bytes) else item.encode("utf-8")
        parts += (_LENGTH.pack(len(data)), data)
    return b"".join(parts)

"""The form of an ONNX file, read past its weights: which files beside it hold tensors.

Push asks for nothing else. Protobuf's own reader takes a file into memory whole, and importing onnx
takes half a second; here lengths are read and what they cover is skipped, in mapped memory.
The numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto), which
never change.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from slipway import files
from slipway.errors import InvalidModel

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10
_MODEL_GRAPH, _MODEL_OPSET = 7, 8
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_OUTPUT = 1, 5, 12
_NODE_ATTRIBUTE = 5
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = {5, 10}, {6, 11}
_TENSOR_EXTERNAL_DATA, _TENSOR_LOCATION = 13, 14
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_EXTERNAL = 1

_Bytes = bytes | mmap.mmap
_Field = tuple[int, int, int]
"""A field's number, and begin and end of its content; of a number, its value twice."""


def external_files(path: Path) -> list[str]:
    """Return the names of the files that hold tensors, relative to the model's folder, sorted.

    Raises:
        NotFound, AccessDenied: the file cannot be read.
        InvalidModel: it is no ONNX model, or a name leads out of the model's folder.
    """
    with files.require_file(path).open("rb") as file:
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                found = _of_model(content)
        except (ValueError, IndexError, UnicodeDecodeError):  # An empty file cannot be mapped.
            raise InvalidModel(f"{path} is no ONNX file", advice(path)) from None
    if found is None:
        raise InvalidModel(f"{path} is no ONNX model: it has no opset or no graph", advice(path))
    return within(found)


def within(names: set[str]) -> list[str]:
    """Return names of files beside the model, sorted.

    Raises:
        InvalidModel: one leads out of the model's folder.
    """
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts or not name:
            raise InvalidModel(
                f"the model's tensors lie in {name!r}, outside of its folder",
                "save the model again, with its external data beside it",
            )
    return sorted(names)


def advice(path: Path) -> str:
    """Return what to do with a file that is no ONNX model."""
    match path.suffix:
        case ".pt" | ".pth" | ".ckpt" | ".torchscript":
            return f"slipway export {path} makes an ONNX file from a PyTorch file"
        case ".pkl" | ".joblib":
            return f"slipway export {path} makes an ONNX file from a scikit-learn estimator"
        case _:
            return "check that it is the file the exporter wrote, whole"


def _of_model(content: _Bytes) -> set[str] | None:
    """Return the files' names; None where there is no opset or no graph."""
    opset = graph = False
    found: set[str] = set()
    for number, begin, end in _fields(content, 0, len(content)):
        opset |= number == _MODEL_OPSET
        if number == _MODEL_GRAPH:
            graph |= _of_graph(content, begin, end, found)
    return found if opset and graph else None


def _of_graph(content: _Bytes, begin: int, end: int, found: set[str]) -> bool:
    """Collect names below a graph; return whether it computes anything."""
    computes = False
    for number, start, stop in _fields(content, begin, end):
        if number == _GRAPH_INITIALIZER:
            found.update(_of_tensor(content, start, stop))
        elif number == _GRAPH_NODE:
            computes = True
            for field, first, last in _fields(content, start, stop):
                if field == _NODE_ATTRIBUTE:
                    _of_attribute(content, first, last, found)
        elif number == _GRAPH_OUTPUT:
            computes = True
    return computes


def _of_attribute(content: _Bytes, begin: int, end: int, found: set[str]) -> None:
    for number, start, stop in _fields(content, begin, end):
        if number in _ATTRIBUTE_TENSORS:
            found.update(_of_tensor(content, start, stop))
        elif number in _ATTRIBUTE_GRAPHS:
            _of_graph(content, start, stop, found)


def _of_tensor(content: _Bytes, begin: int, end: int) -> set[str]:
    external = False
    names: set[str] = set()
    for number, start, stop in _fields(content, begin, end):
        if number == _TENSOR_LOCATION:
            external = start == _EXTERNAL
        elif number == _TENSOR_EXTERNAL_DATA:
            entry = {field: content[a:b] for field, a, b in _fields(content, start, stop)}
            if entry.get(_ENTRY_KEY) == b"location":
                names.add(entry.get(_ENTRY_VALUE, b"").decode())
    return names if external else set()


def _fields(content: _Bytes, begin: int, end: int) -> Iterator[_Field]:
    """Walk the fields of one message. Raises ValueError or IndexError where it is none."""
    at = begin
    while at < end:
        tag, at = _varint(content, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(content, at)
            yield tag >> 3, value, value
            continue
        if kind == _BYTES:
            size, at = _varint(content, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"there is no wire type {kind}")
        if at + size > end or tag < 8:  # noqa: PLR2004 - fields are numbered from 1, above 3 bits
            raise ValueError("a field is longer than what holds it")
        yield tag >> 3, at, at + size
        at += size
    if at != end:
        raise ValueError("a number is longer than what holds it")


def _varint(content: _Bytes, at: int) -> tuple[int, int]:
    byte = content[at]
    if byte < 128:  # noqa: PLR2004 - the high bit says that there is more
        return byte, at + 1
    value = shift = 0
    for index in range(_LONGEST_VARINT):
        byte = content[at + index]
        value |= (byte & 127) << shift
        if byte < 128:  # noqa: PLR2004
            return value, at + index + 1
        shift += 7
    raise ValueError("a number has more than ten bytes")

"""The names of the files in which an ONNX graph keeps tensors, read without loading the graph.

ONNX Runtime opens these files by itself. So before it sees a graph, every location in it must be a
file that the digest pins. Only the fields that lead to a tensor are followed; weights inside of
the graph are skipped by their length, whatever their size.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from slipway_runtime.artifact.manifest import Manifest
from slipway_runtime.errors import InvalidModel

_EXTERNAL_DATA: Final = 13
_KEY, _VALUE = 1, 2
_LOCATION: Final = b"location"
_MAX_VARINT_BYTES: Final = 10
_MAX_TAG: Final = 2**32 - 1
_MAX_LOCATION_BYTES: Final = 4096

# Field numbers of onnx.proto: message -> {field: message}.
_FIELDS: Final[dict[str, dict[int, str]]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {
        5: "Tensor",
        6: "Graph",
        10: "Tensor",
        11: "Graph",
        22: "SparseTensor",
        23: "SparseTensor",
    },
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {_EXTERNAL_DATA: "Entry"},
}


class _MalformedError(ValueError):
    """The bytes are no protobuf message."""


def external_locations(path: Path) -> set[str]:
    """Return the locations of all external data that the graph of a file names.

    Raises:
        InvalidModel: the file is no ONNX model, or a location is no text.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            return set()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            # Most models keep all tensors inside, and none of their nodes need be looked at.
            if content.find(_LOCATION) < 0:
                return set()
            try:
                return set(_locations(content))
            except (_MalformedError, UnicodeDecodeError) as error:
                raise InvalidModel(f"{path.name} is no ONNX model: {error}") from None


def require_pinned(path: Path, manifest: Manifest | None) -> None:
    """Check that the graph's tensors lie in it, or in external data that the manifest lists.

    Raises:
        InvalidModel: naming the first location that nothing pins.
    """
    pinned = _beside_the_graph(manifest) if manifest is not None else set[str]()
    for location in sorted(external_locations(path) - pinned):
        if manifest is None:
            raise InvalidModel(
                f"the model keeps tensors in {location[:200]!r}, and the digest of a bare file"
                " pins that file alone: `slipway pack` makes a package of them"
            )
        raise InvalidModel(
            f"the graph keeps tensors in {location[:200]!r}, which is no file of the package:"
            " `slipway pack` lists every file that a graph needs"
        )


def _beside_the_graph(manifest: Manifest) -> set[str]:
    """Return the package's other files, relative to the folder of the graph, as locations are."""
    folder, slash, _ = manifest.model.path.rpartition("/")
    prefix = folder + slash
    return {
        file.path.removeprefix(prefix) for file in manifest.others if file.path.startswith(prefix)
    }


def _locations(content: mmap.mmap) -> Iterator[str]:
    # A stack of our own: how deep graphs nest is the file's to say.
    pending = [("Model", 0, len(content))]
    while pending:
        message, start, end = pending.pop()
        for field, begin, stop in _members(content, start, end):
            kind = _FIELDS[message].get(field)
            if kind == "Entry":
                location = _entry(content, begin, stop)
                if location is not None:
                    yield location
            elif kind is not None:
                pending.append((kind, begin, stop))


def _entry(content: mmap.mmap, start: int, end: int) -> str | None:
    """Return the value of a key-value pair whose key is ``location``."""
    key, value = b"", b""
    for field, begin, stop in _members(content, start, end):
        if field in (_KEY, _VALUE) and stop - begin > _MAX_LOCATION_BYTES:
            raise _MalformedError("a name of external data has more than 4,096 bytes")
        if field == _KEY:
            key = content[begin:stop]
        elif field == _VALUE:
            value = content[begin:stop]
    return value.decode() if key == _LOCATION else None


def _members(content: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, begin and end of each field that has a length."""
    position = start
    while position < end:
        tag, position = _varint(content, position, end)
        # Other readers drop what exceeds 32 bits, and would see a field that is not seen here.
        if tag > _MAX_TAG:
            raise _MalformedError(f"a field before byte {position} has a number beyond 32 bits")
        match tag & 7:
            case 0:  # a number
                _, position = _varint(content, position, end)
                continue
            case 1:  # 64 bits
                position += 8
                continue
            case 5:  # 32 bits
                position += 4
                continue
            case 2:  # a length, and so many bytes
                length, position = _varint(content, position, end)
            case other:
                raise _MalformedError(f"wire type {other} at byte {position}")
        if length > end - position:
            raise _MalformedError(f"a field at byte {position} is longer than what holds it")
        yield tag >> 3, position, position + length
        position += length
    if position != end:
        raise _MalformedError(f"a field ends behind byte {end}")


def _varint(content: mmap.mmap, position: int, end: int) -> tuple[int, int]:
    result = shift = 0
    for _ in range(_MAX_VARINT_BYTES):
        if position >= end:
            raise _MalformedError(f"it ends within a number at byte {position}")
        octet = content[position]
        position += 1
        result |= (octet & 0x7F) << shift
        if octet < 0x80:  # noqa: PLR2004 - the last byte of a number has its top bit clear
            return result, position
        shift += 7
    raise _MalformedError(f"a number at byte {position} has no end")

"""Reading ONNX files, and walking their nodes and external files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from slipway import files
from slipway.errors import InvalidModel, NotFound
from slipway.model import form


def read(path: Path) -> onnx.ModelProto:
    """Parse a model; the content of external files is not read.

    Raises:
        NotFound, AccessDenied: the file cannot be read.
        InvalidModel: it is no ONNX model.
    """
    files.require_file(path)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError:
        raise InvalidModel(f"{path} is no ONNX file", form.advice(path)) from None
    if not model.opset_import or not (model.graph.node or model.graph.output):
        raise InvalidModel(
            f"{path} is no ONNX model: it has no opset or no graph", form.advice(path)
        )
    return model


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Walk all nodes, those of subgraphs (If, Loop, Scan) included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for subgraph in (
                *attribute.graphs,
                *([attribute.g] if attribute.HasField("g") else []),
            ):
                yield from nodes(subgraph)


def tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Walk all constant tensors, those of Constant nodes and subgraphs included."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from attribute.tensors
            if attribute.HasField("t"):
                yield attribute.t
            for subgraph in (
                *attribute.graphs,
                *([attribute.g] if attribute.HasField("g") else []),
            ):
                yield from tensors(subgraph)


def files_beside(path: Path) -> list[str]:
    """Return `external_files` of a model that may be there, or be none."""
    try:
        return external_files(read(path))
    except (NotFound, InvalidModel):
        return []


def external_files(model: onnx.ModelProto) -> list[str]:
    """Return the names of the files that hold tensors, relative to the model's folder, sorted.

    Raises:
        InvalidModel: a name leads out of the model's folder.
    """
    found: set[str] = set()
    for tensor in tensors(model.graph):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        for entry in tensor.external_data:
            if entry.key == "location":
                found.add(entry.value)
    return form.within(found)

"""Packages of a model on disk, as `slipway pack` makes them, and worse ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from runtime_kit import onnx_models
from runtime_kit.process import digest_of

CHUNK = 64 * 1024 * 1024


def entry(path: str, content: bytes, role: str) -> dict[str, Any]:
    """What a manifest says of a file."""
    listed: dict[str, Any] = {
        "path": path,
        "role": role,
        "size": len(content),
        "digest": digest_of(content),
    }
    if len(content) > CHUNK:
        pieces = range(0, len(content), CHUNK)
        listed |= {
            "chunkSize": CHUNK,
            "chunks": [digest_of(content[start : start + CHUNK]) for start in pieces],
        }
    return listed


def golden(*samples: tuple[Mapping[str, Any], Mapping[str, Any]]) -> bytes:
    """The content of golden.json for FP32 tensors: (inputs, outputs) of each sample."""

    def tensors(arrays: Mapping[str, Any]) -> list[dict[str, Any]]:
        found = {name: np.asarray(array, dtype=np.float32) for name, array in arrays.items()}
        return [
            {
                "name": name,
                "datatype": "FP32",
                "shape": list(array.shape),
                "data": array.ravel().tolist(),
            }
            for name, array in found.items()
        ]

    return json.dumps(
        {"samples": [{"inputs": tensors(i), "outputs": tensors(o)} for i, o in samples]}
    ).encode()


def manifest(files: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    return {
        "schemaVersion": 1,
        "name": "m",
        "files": files,
        "inputs": [{"name": "x", "datatype": "FP32", "shape": ["n", 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": ["n", 2]}],
    } | changes


def write(
    folder: Path,
    files: Mapping[str, tuple[str, bytes]],
    **changes: Any,
) -> str:
    """Write files (path -> role, content) with their manifest; return the manifest's digest."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, (_, content) in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    listed = [entry(path, content, role) for path, (role, content) in files.items()]
    content = json.dumps(manifest(listed, **changes)).encode()
    (folder / "slipway.json").write_bytes(content)
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def linear(folder: Path, **changes: Any) -> str:
    """The linear model in a package."""
    return write(folder, {"model.onnx": ("model", onnx_models.linear())}, **changes)


def external_model(location: str, *, rows: int = 4, columns: int = 2, **entries: str) -> bytes:
    """x [n, rows] FP32 -> y [n, columns] = x W, W being FP32 at ``location``."""
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[rows, columns])
    weights.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        weights.external_data.add(key=key, value=value)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "test",
        [onnx_models.tensor("x", ["n", rows])],
        [onnx_models.tensor("y", ["n", columns])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", onnx_models.OPSET)])
    model.ir_version = onnx_models.IR_VERSION
    return onnx.ModelProto.SerializeToString(model)


WEIGHTS = np.arange(8, dtype=np.float32).tobytes()


def external(folder: Path, location: str = "data/w.bin", weights: bytes = WEIGHTS) -> str:
    """A package whose weights lie in external data."""
    return write(
        folder,
        {
            "model.onnx": ("model", external_model(location)),
            location: ("externalData", weights),
        },
    )

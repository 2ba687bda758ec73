"""A model above 2 GiB, which is more than protobuf holds: its weights lie beside the graph."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper
from runtime_kit import onnx_models, packages
from runtime_kit.process import Server, digest_of

COLUMNS = 1024
ROW_BYTES = 4 * COLUMNS
ROWS = (2 * 1024**3 + 64 * 1024**2) // ROW_BYTES
SIZE = ROWS * ROW_BYTES


def graph() -> bytes:
    """index [n] INT64 -> y [n, COLUMNS] FP32: rows of a table that lies in table.bin."""
    table = TensorProto(name="table", data_type=TensorProto.FLOAT, dims=[ROWS, COLUMNS])
    table.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "table.bin"), ("length", str(SIZE))):
        table.external_data.add(key=key, value=value)
    return onnx_models.build(
        [helper.make_node("Gather", ["table", "index"], ["y"])],
        [onnx_models.tensor("index", ["n"], "INT64")],
        [onnx_models.tensor("y", ["n", COLUMNS])],
        [table],
    )


def write_table(path: Path) -> dict[str, Any]:
    """Zeros, which take no room on disk, but for the last row; returns the manifest's entry."""
    last = np.arange(COLUMNS, dtype=np.float32).tobytes()
    with path.open("wb") as file:
        file.truncate(SIZE)
        file.seek(SIZE - ROW_BYTES)
        file.write(last)
    zeros = bytes(packages.CHUNK)
    end = bytes((SIZE - 1) % packages.CHUNK + 1 - ROW_BYTES) + last
    count = (SIZE - 1) // packages.CHUNK
    whole = hashlib.sha256()
    for _ in range(count):
        whole.update(zeros)
    whole.update(end)
    chunks = [digest_of(zeros)] * count + [digest_of(end)]
    return {
        "path": path.name,
        "role": "externalData",
        "size": SIZE,
        "digest": f"sha256:{whole.hexdigest()}",
        "chunkSize": packages.CHUNK,
        "chunks": chunks,
    }


def test_weights_above_two_gib_are_verified_and_served(tmp_path: Path) -> None:
    """What `fetch` would copy for a minute lies in the cache from the start."""
    written = tmp_path / "written"
    written.mkdir()
    (written / "model.onnx").write_bytes(graph())
    files = [packages.entry("model.onnx", graph(), "model"), write_table(written / "table.bin")]
    signature = {
        "inputs": [{"name": "index", "datatype": "INT64", "shape": ["n"]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": ["n", COLUMNS]}],
    }
    manifest = json.dumps(packages.manifest(files, **signature)).encode()
    (written / "slipway.json").write_bytes(manifest)
    digest = hashlib.sha256(manifest).hexdigest()
    entry = tmp_path / "cache" / "sha256" / digest
    entry.parent.mkdir(parents=True)
    written.rename(entry)
    assert SIZE > 2**31

    with Server.of_cached(tmp_path, f"sha256:{digest}") as server:
        server.start().wait_until_ready(120)
        answer = server.post("/predict", {"index": [ROWS - 1, 0]}).json["y"]
    assert answer == [np.arange(COLUMNS).tolist(), [0] * COLUMNS]

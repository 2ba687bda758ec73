"""A model above 2 GiB, from PyTorch to an answer: what protobuf alone cannot hold.

    make bench-large        # 2.5 GiB of external data; needs 14 GiB of disk, 12 of memory
    PYTHONPATH=tests/support uv run --frozen python bench/large.py --onnx   # without PyTorch

Exports a module (or writes the graph itself), which compares it with the original, packs, pushes to
an S3 server of this machine, fetches as the init container does, with its limit of memory (as the
peak that the kernel counts for the process), serves, and compares rows of the answer with what was
put in. Writes bench/results/large.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from environment import environment
from onnx import TensorProto, helper
from runtime_kit.process import Server
from source_kit.frameworks import program

from slipway_dev.s3 import REGION, S3Server

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(sys.executable).parent
COLUMNS = 1024
MODULE = """
import torch

rows = torch.arange({rows}, dtype=torch.float32)[:, None]
table = rows + torch.arange({columns}, dtype=torch.float32) / {columns}
model = torch.nn.Embedding.from_pretrained(table).eval()
"""
LIMIT_MEBIBYTES = 512  # of the container `fetch`


def table(start: int, count: int) -> np.ndarray:
    """Rows of the table [rows, COLUMNS] FP32: each number tells its row and column."""
    rows = np.arange(start, start + count, dtype=np.float32)[:, None]
    return rows + np.arange(COLUMNS, dtype=np.float32) / COLUMNS


def write_model(folder: Path, rows: int) -> Path:
    """index [n] INT64 -> y [n, COLUMNS] FP32, the table being external data."""
    with (folder / "table.bin").open("wb") as file:
        for start in range(0, rows, 4096):
            file.write(table(start, min(4096, rows - start)).tobytes())
    weights = TensorProto(name="table", data_type=TensorProto.FLOAT, dims=[rows, COLUMNS])
    weights.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "table.bin"), ("length", str(rows * COLUMNS * 4))):
        weights.external_data.add(key=key, value=value)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "index"], ["y"])],
        "large",
        [helper.make_tensor_value_info("index", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", COLUMNS])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def export_model(folder: Path, rows: int) -> tuple[Path, float]:
    """The same from a module of PyTorch, by `slipway export`; and the seconds of that."""
    (folder / "large_module.py").write_text(MODULE.format(rows=rows, columns=COLUMNS))
    path = folder / "model.onnx"
    command = [program("slipway"), "export", "large_module:model", "--input", "index=INT64[n]",
               "--output", "y", "--range", f"index=0:{rows - 1}", "--out", path]  # fmt: skip
    variables = {"PYTHONPATH": str(folder), "TMPDIR": str(folder)}
    _, seconds, _ = timed(command, variables)
    return path, seconds


def timed(command: list[Any], variables: dict[str, str]) -> tuple[str, float, int]:
    """Run to the end; return its output, seconds, and the most memory that it had, in MiB."""
    begun, most = time.perf_counter(), 0
    with tempfile.TemporaryFile("w+") as out:
        running = subprocess.Popen(
            [str(part) for part in command], env=os.environ | variables, stdout=out
        )
        while running.poll() is None:
            # ru_maxrss would begin with what this process has.
            status = Path(f"/proc/{running.pid}/status").read_text()
            if "VmHWM:" in status:
                most = max(most, int(status.partition("VmHWM:")[2].split()[0]) >> 10)
            time.sleep(0.01)
        seconds = time.perf_counter() - begun
        out.seek(0)
        if running.returncode:
            raise SystemExit(f"{command[:2]} ended with {running.returncode}: {out.read()}")
        return out.read(), seconds, most


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gibibytes", type=float, default=2.5)
    parser.add_argument("--onnx", action="store_true", help="write the graph without PyTorch")
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results/large.json")
    options = parser.parse_args()
    rows = int(options.gibibytes * 2**30) // (4 * COLUMNS)
    with tempfile.TemporaryDirectory(prefix="slipway-large-") as name, S3Server("large") as s3:
        folder = Path(name)
        variables = {
            "AWS_ENDPOINT_URL": s3.endpoint,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": s3.root.access,
            "AWS_SECRET_ACCESS_KEY": s3.root.secret,
            "AWS_EC2_METADATA_DISABLED": "true",
            "SLIPWAY_S3_ADDRESSING_STYLE": "path",
            "SLIPWAY_CACHE_DIR": str(folder / "cache"),
            "SLIPWAY_TERMINATION_LOG": str(folder / "termination"),
            "NO_PROXY": "*",
        }
        s3.root_client().create_bucket(Bucket="models")
        package = folder / "package"
        told: dict[str, Any] = {"environment": environment(), "bytes": rows * COLUMNS * 4}
        if options.onnx:
            model = write_model(folder, rows)
        else:
            model, told["export_seconds"] = export_model(folder, rows)
        pack = [HERE / "slipway", "pack", model, "--name", "large", "--out", package]
        _, told["pack_seconds"], _ = timed([*pack, "--range", f"0:{rows - 1}"], variables)
        for path in (*folder.glob("model.onnx*"), folder / "table.bin"):
            path.unlink(missing_ok=True)
        push = [HERE / "slipway", "push", package, "--to", "s3://models/large", "--json"]
        out, told["push_seconds"], _ = timed(push, variables)
        pushed = json.loads(out)
        for path in package.iterdir():
            path.unlink()
        fetch = [HERE / "slipway-runtime", "fetch", "--uri", pushed["uri"], "--digest",
                 pushed["digest"]]  # fmt: skip
        _, told["fetch_seconds"], told["fetch_peak_mebibytes"] = timed(fetch, variables)
        assert told["fetch_peak_mebibytes"] < LIMIT_MEBIBYTES, told
        begun = time.perf_counter()
        with Server.of_cached(folder, pushed["digest"]) as server:
            server.start().wait_until_ready(300)
            told["ready_seconds"] = time.perf_counter() - begun
            wanted = [0, rows // 3, rows - 1]
            answer = np.array(server.post("/predict", {"index": wanted}).json["y"], np.float32)
        for row, got in zip(wanted, answer, strict=True):
            np.testing.assert_array_equal(got, table(row, 1)[0])
    told |= {name: round(value, 1) for name, value in told.items() if name.endswith("seconds")}
    print(json.dumps(told, indent=2))
    options.out.write_text(json.dumps(told, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

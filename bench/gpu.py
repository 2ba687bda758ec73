"""The runtime on a GPU: that it runs there, that it is right, and what it gains.

    PYTHONPATH=tests/support uv run --frozen python bench/gpu.py {check,bench}

Needs an NVIDIA GPU and onnxruntime-gpu in this environment (`uv sync --extra gpu` of
slipway-runtime); says what is missing and ends with 1 otherwise. `check` serves a model with CUDA
required, and compares with the CPU; `bench` measures requests one after the other on both.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from runtime_kit.process import Server

SIZE, ROWS = 2048, 64
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
RTOL, ATOL = 1e-3, 1e-4


def model() -> bytes:
    """x [n, SIZE] FP32 -> y [n, SIZE]: four layers of matrix product and ReLU."""
    random = np.random.default_rng(3)
    nodes, weights, name = [], [], "x"
    for layer in range(4):
        matrix = random.standard_normal((SIZE, SIZE)).astype(np.float32) / SIZE**0.5
        weights.append(numpy_helper.from_array(matrix, f"w{layer}"))
        result = "y" if layer == 3 else f"r{layer}"
        nodes.append(helper.make_node("MatMul", [name, f"w{layer}"], [f"m{layer}"]))
        nodes.append(helper.make_node("Relu", [f"m{layer}"], [result]))
        name = result
    tensor = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", SIZE]) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "gpu", [tensor[0]], [tensor[1]], weights)
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    built.ir_version = 10
    return built.SerializeToString()


def missing() -> str | None:
    """What this machine or environment lacks, or None."""
    if shutil.which("nvidia-smi") is None:
        return "no NVIDIA GPU here: there is no nvidia-smi"
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    if listed.returncode or "GPU 0" not in listed.stdout:
        return f"no NVIDIA GPU here: nvidia-smi says {(listed.stderr or listed.stdout).strip()!r}"
    if CUDA not in onnxruntime.get_available_providers():
        return (
            f"a GPU, but onnxruntime {onnxruntime.__version__} here is built without CUDA:"
            " install runtime/requirements-gpu.txt into this environment"
        )
    return None


def served(provider: str, content: bytes, x: np.ndarray, times: int) -> tuple[np.ndarray, float]:
    """The outputs by HTTP with that provider required, and the median seconds of a request."""
    extra = {"SLIPWAY_PROVIDERS": provider, "SLIPWAY_MAX_BODY_BYTES": str(1 << 28)}
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": "0"}
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder), content, extra=extra) as at:
        at.start().wait_until_ready(120)
        providers = at.get("/health").json["providers"]
        assert provider in providers, providers
        seconds = list[float]()
        for _ in range(times):
            began = time.perf_counter()
            reply = at.post("/v2/models/m/infer", x.tobytes(), headers)
            seconds.append(time.perf_counter() - began)
            assert reply.status == 200, reply.body[:500]
        length = int(reply.headers["inference-header-content-length"])
        outputs = np.frombuffer(reply.body[length:], np.float32).reshape(x.shape)
    return outputs, statistics.median(seconds)


def main() -> int:
    lacking = missing()
    if lacking is not None:
        print(lacking, file=sys.stderr)
        return 1
    times = 50 if sys.argv[1:] == ["bench"] else 1
    content = model()
    x = np.random.default_rng(5).standard_normal((ROWS, SIZE)).astype(np.float32)
    on_gpu, gpu_seconds = served(CUDA, content, x, times)
    on_cpu, cpu_seconds = served(CPU, content, x, times)
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=RTOL, atol=ATOL)
    print(f"outputs agree within rtol {RTOL:g}, atol {ATOL:g}; {CUDA} is in the session")
    if times > 1:
        print(f"median request of {ROWS} rows: GPU {gpu_seconds * 1e3:.2f} ms,", end=" ")
        print(f"CPU {cpu_seconds * 1e3:.2f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())

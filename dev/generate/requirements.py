"""What the images install: hashed requirements files, exported from uv.lock.

The images are built with pip alone, so they need no uv; the lock file stays the one source.
"""

import os
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

_HEADER = "# Exported from uv.lock by `make generate`. Do not edit.\n"


def _export(root: Path, *, package: str, extras: tuple[str, ...] = ()) -> str:
    command = [
        os.environ.get("UV", "uv"), "export", "--frozen", "--quiet", "--no-header", "--no-annotate",
        "--no-dev", "--no-emit-workspace", "--package", package,
        *(f"--extra={extra}" for extra in extras),
    ]  # fmt: skip
    result = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    return _HEADER + result.stdout


FILES: dict[str, Callable[[Path], str]] = {
    "operator/requirements.txt": partial(_export, package="slipway-operator"),
    "runtime/requirements-cpu.txt": partial(
        _export, package="slipway-runtime", extras=("cpu", "tracing")
    ),
    "runtime/requirements-gpu.txt": partial(
        _export, package="slipway-runtime", extras=("gpu", "tracing")
    ),
    "runtime/requirements-openvino.txt": partial(
        _export, package="slipway-runtime", extras=("openvino", "tracing")
    ),
}

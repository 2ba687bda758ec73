"""The Python that loads an MLflow model: one made from its own requirements, or this one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from slipway.errors import ExportFailed, InvalidArguments
from slipway.export.mlflow.flavors import PYFUNC, PYTORCH, SKLEARN
from slipway.export.mlflow.folder import MlflowModel

_EXPORTERS = {
    PYTORCH: ("onnxscript",),
    SKLEARN: ("skl2onnx",),
    PYFUNC: ("skl2onnx",),
}
_ALWAYS = ("numpy", "onnx", "onnxruntime")
_BOOSTING = ("lightgbm", "xgboost")
_SECONDS = 3600


def make(model: MlflowModel, folder: Path) -> Path:
    """Make an environment below ``folder`` from the model's requirements; return its Python.

    The exporter's packages are added, in whatever version fits the requirements.

    Raises:
        InvalidArguments: the model came without requirements, or wants another Python.
        ExportFailed: the packages cannot be installed.
    """
    if not model.requirements.is_file():
        raise InvalidArguments(
            f"{model.folder} has no requirements.txt, so its environment is not known",
            "--env current loads it with the packages that are installed here",
        )
    wanted = ".".join(model.python.split(".")[:2])
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    place = folder / "environment"
    python = place / ("Scripts" if os.name == "nt" else "bin") / "python"
    packages = ["--requirement", str(model.requirements), *_ALWAYS, *_EXPORTERS[model.flavor]]
    listed = model.requirements.read_text(encoding="utf-8").lower()
    if any(name in listed for name in _BOOSTING):
        packages.append("onnxmltools")
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is not None:
        _run([uv, "venv", "--quiet", "--python", wanted or here, str(place)])
        _run([uv, "pip", "install", "--quiet", "--python", str(python), *packages])
        return python
    if wanted not in ("", here):
        raise InvalidArguments(
            f"the model was logged with Python {wanted}, and this is {here}",
            "install uv, which brings other Pythons, or take --env current",
        )
    _run([sys.executable, "-m", "venv", str(place)])
    _run([str(python), "-m", "pip", "install", "--quiet", *packages])
    return python


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
    if done.returncode:
        said = " ".join(done.stderr.split())[-600:]
        raise ExportFailed(
            f"the model's environment cannot be made: {said}",
            "--env current loads it with the packages that are installed here",
        )

"""The one environment with torch, scikit-learn, boosting and MLflow, made by uv and kept.

Its versions are those of the lock.
The root environment stays free of them: torch alone is 5 GB.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / ".tools" / "torch-venv"


@cache
def program(name: str) -> Path:
    """Bring the environment up to the lock, which takes a second when it is, and return a path."""
    uv = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".tools" / "uv" / "bin" / "uv")
    command = [
        uv, "sync", "--frozen", "--quiet", "--no-dev", "--package", "slipway",
        "--extra", "torch", "--extra", "sklearn", "--extra", "boosting", "--extra", "mlflow",
        "--group", "frameworks",
    ]  # fmt: skip
    variables = {"UV_PROJECT_ENVIRONMENT": str(FOLDER), "UV_PYTHON_DOWNLOADS": "never"}
    subprocess.run(command, cwd=ROOT, check=True, env=os.environ | variables, timeout=1200)
    return FOLDER / "bin" / name

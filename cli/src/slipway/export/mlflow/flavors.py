"""Names that MLflow gives: of its file, its flavours, its URIs."""

from __future__ import annotations

import re

FILE_NAME = "MLmodel"
ONNX, PYTORCH, SKLEARN, PYFUNC = "onnx", "pytorch", "sklearn", "python_function"

_URI = re.compile(r"(models|runs):/.+")


def is_uri(source: str) -> bool:
    """Return whether MLflow has to fetch it first."""
    return bool(_URI.fullmatch(source))

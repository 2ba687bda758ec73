"""`slipway-runtime` with an imitation of OpenVINO's execution provider; `PROGRAM` runs it.

It compiles for as long as the file named by IMITATION_HOLD lies there, and keeps the blob as the
real one does. With IMITATION_FAILS it cannot start, and says that text; with IMITATION_LEFT_OUT
ONNX Runtime makes its session without it, in silence.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slipway_runtime.cli import main

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

NAME = "OpenVINOExecutionProvider"
PROGRAM = (sys.executable, "-P", __file__)
BLOB = "model.blob"
_LOOK_EVERY_SECONDS = 0.02


class Session(onnxruntime.InferenceSession):
    """A session on the CPU that says it is OpenVINO's."""

    def __init__(
        self,
        path: str,
        sess_options: Any,
        providers: Sequence[str],
        provider_options: Sequence[Mapping[str, str]],
        **more: Any,
    ) -> None:
        given = dict(zip(providers, provider_options, strict=True))
        options = given.pop(NAME, None)
        self._imitated = options is not None and "IMITATION_LEFT_OUT" not in os.environ
        if options is not None and (text := os.environ.get("IMITATION_FAILS")):
            begin_in(options.get("cache_dir"))
            raise RuntimeError(text)
        if options is not None and self._imitated:
            compile_into(options.get("cache_dir"))
        super().__init__(path, sess_options, list(given), list(given.values()), **more)

    def get_providers(self) -> list[str]:
        own = super().get_providers()
        return [NAME, *own] if self._imitated else own


def begin_in(folder: str | None) -> None:
    """Leave behind what a compilation leaves that fails half-way."""
    if folder is not None:
        (Path(folder) / "half.blob").write_bytes(b"com")


def compile_into(folder: str | None) -> None:
    """Take as long as is asked for, unless a blob was kept."""
    blob = None if folder is None else Path(folder) / BLOB
    if blob is not None and blob.exists():
        return
    hold = os.environ.get("IMITATION_HOLD")
    while hold is not None and Path(hold).exists():
        time.sleep(_LOOK_EVERY_SECONDS)
    if blob is not None:
        blob.write_bytes(b"compiled")


if __name__ == "__main__":
    known = onnxruntime.get_available_providers()
    onnxruntime.get_available_providers = lambda: [NAME, *known]
    onnxruntime.InferenceSession = Session
    main()

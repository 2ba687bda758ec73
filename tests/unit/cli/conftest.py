"""Every test runs in an empty folder, with no setting of the machine's own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_kit import models


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith(("AWS_", "SLIPWAY_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()  # Where the search for slipway.toml ends.
    return tmp_path


@pytest.fixture
def saved(folder: Path) -> Callable[..., Path]:
    """Write the bytes of a model to a file and return its path."""

    def save(content: bytes, name: str = "model.onnx") -> Path:
        path = folder / name
        path.write_bytes(content)
        return path

    return save


@pytest.fixture
def linear(saved: Callable[..., Path]) -> Path:
    return saved(models.linear())

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from runtime_kit import onnx_models
from runtime_kit.process import Server

from slipway_runtime.artifact.digest import Digest
from slipway_runtime.inference import model as models

LoadModel = Callable[[bytes], models.Model]


@pytest.fixture
def load_model(tmp_path: Path) -> LoadModel:
    """Load a model's bytes in this process, as `serve` does."""

    def load(
        content: bytes, providers: tuple[str, ...] = ("CPUExecutionProvider",)
    ) -> models.Model:
        path = tmp_path / "model.onnx"
        path.write_bytes(content)
        identity = models.ModelIdentity("m", Digest("0" * 64))
        return models.load(identity, path, providers, intra_op_threads=1, inter_op_threads=1)

    return load


@pytest.fixture(scope="session")
def linear_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A ready server of the linear model, shared by tests that only ask it things."""
    folder = tmp_path_factory.mktemp("linear")
    with Server(folder, onnx_models.linear(), extra={"SLIPWAY_MAX_BODY_BYTES": "100000"}) as server:
        yield server.start().wait_until_ready()

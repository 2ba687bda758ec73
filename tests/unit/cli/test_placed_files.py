"""Models that are put into a folder with their external data: nothing of others is overwritten."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_kit import models

from slipway import files
from slipway.errors import Conflict
from slipway.model import graph as graphs


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def made(folder: Path, value: float, data: str) -> Path:
    """Write a model whose weights are this value, and lie in that file beside it."""
    (folder / data).parent.mkdir(parents=True)
    weights = models.constant("w", np.full((64, 64), value))
    content = models.build(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        [models.tensor("x", ["n", 64])],
        [models.tensor("y", ["n", 64])],
        [weights],
    )
    path = folder / "model.onnx"
    onnx.save_model(
        onnx.load_model_from_string(content),
        str(path),
        save_as_external_data=True,
        location=data,
        size_threshold=0,
    )
    return path


def place(path: Path, target: Path) -> None:
    files.place(path, target, graphs.files_beside(target))


@pytest.mark.parametrize("data", ["w.bin", "sub/w.bin"])
def test_a_model_replaces_its_own_external_data(tmp_path: Path, out: Path, data: str) -> None:
    for number in (1, 2):
        place(made(tmp_path / str(number), number, data), out / "m.onnx")
        loaded = onnx.load_model(str(out / "m.onnx"))
        (weights,) = loaded.graph.initializer
        assert onnx.numpy_helper.to_array(weights)[0, 0] == number


def test_external_data_of_another_model_is_left_alone(tmp_path: Path, out: Path) -> None:
    place(made(tmp_path / "1", 1, "w.bin"), out / "one.onnx")
    other = made(tmp_path / "2", 2, "w.bin")
    with pytest.raises(Conflict, match=r"w\.bin exists and is not of two\.onnx"):
        place(other, out / "two.onnx")
    assert sorted(path.name for path in out.iterdir()) == ["one.onnx", "w.bin"]
    assert other.exists()
    assert (out / "w.bin").read_bytes() != (other.parent / "w.bin").read_bytes()
    # What is the same to the byte may be shared.
    place(made(tmp_path / "3", 1, "w.bin"), out / "three.onnx")

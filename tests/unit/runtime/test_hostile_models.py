"""Models that ask for more than there is: they end the load with a reason, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runtime_kit import onnx_models, packages

from slipway_runtime import errors
from slipway_runtime.artifact.manifest import decode
from slipway_runtime.inference.model import Model
from slipway_runtime.inference.trial import limits_for

LoadModel = Callable[[bytes], Model]


@pytest.mark.parametrize(
    "declared",
    [
        pytest.param({"rows": 2**20, "columns": 2**20}, id="4 TiB of weights"),
        pytest.param({"rows": 2**40, "columns": 2**40}, id="more than a number holds"),
        pytest.param({"offset": "4096", "length": "32"}, id="behind the end"),
        pytest.param({"offset": "-8"}, id="before the beginning"),
        pytest.param({"length": "999999999999"}, id="longer than the file"),
        pytest.param({"offset": "nonsense"}, id="no number"),
    ],
)
def test_external_data_that_declares_more_than_the_file_has_is_refused(
    tmp_path: Path, load_model: LoadModel, declared: dict[str, Any]
) -> None:
    (tmp_path / "w.bin").write_bytes(packages.WEIGHTS)
    with pytest.raises(errors.InvalidModel):
        load_model(packages.external_model("w.bin", **declared))


@pytest.mark.parametrize("shape", [(2**31, 2**31), ("n", 2**40), ("n", 2**28 + 1)])
def test_an_input_that_no_request_can_hold_is_refused_before_memory_is_taken(
    load_model: LoadModel, shape: tuple[int | str, ...]
) -> None:
    model = load_model(onnx_models.identity(shape=shape))
    with pytest.raises(errors.WarmupFailed, match=r"input 'x' .* one row of it takes \d+ bytes"):
        model.warm_up()


def test_a_wide_input_is_not_tried_in_batches_unasked(load_model: LoadModel) -> None:
    assert limits_for(load_model(onnx_models.identity(shape=("n", 2**38))), 0, 0).max_rows == 1


def test_a_manifest_may_list_more_than_any_disk_has_without_costing_memory() -> None:
    count = 2**14
    listed = packages.entry("w", b"", "externalData") | {
        "size": count * packages.CHUNK,
        "chunkSize": packages.CHUNK,
        "chunks": ["sha256:" + "0" * 64] * count,
    }
    model = packages.entry("model.onnx", b"x", "model")
    content = json.dumps(packages.manifest([model, listed])).encode()
    assert decode(content).size == count * packages.CHUNK + 1

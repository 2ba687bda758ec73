"""A defect of the runtime in one request: told without its particulars, and counted."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from runtime_kit import onnx_models
from runtime_kit.in_process import InProcess

SECRET = "what only the log may tell"


async def test_a_defect_is_500_and_counted_as_a_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> Any:
        raise TypeError(SECRET)

    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_models.linear())
    served = InProcess(path)
    served.model.infer = broken
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
    with caplog.at_level(logging.ERROR):
        reply = await served.infer({"inputs": [tensor]})
    assert reply.status == 500
    assert SECRET not in reply.body.decode()
    assert SECRET in caplog.text
    assert (served.metrics.request_failure, served.metrics.request_success) == (1, 0)

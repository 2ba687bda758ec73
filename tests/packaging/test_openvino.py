"""The OpenVINO flavour: its lock installs by itself, and the runtime serves on a CPU with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from runtime_kit import onnx_models
from runtime_kit.process import Server

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".tools" / "openvino-venv"
OPENVINO, CPU = "OpenVINOExecutionProvider", "CPUExecutionProvider"
X = [[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 1.0]]


@pytest.fixture(scope="module")
def program() -> Path:
    """The runtime in an environment with onnxruntime-openvino, from the lock."""
    uv = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".tools" / "uv" / "bin" / "uv")
    command = [uv, "sync", "--frozen", "--quiet", "--no-dev", "--package", "slipway-runtime",
               "--extra", "openvino"]  # fmt: skip
    variables = {"UV_PROJECT_ENVIRONMENT": str(FOLDER), "UV_PYTHON_DOWNLOADS": "never"}
    subprocess.run(command, cwd=ROOT, check=True, env=os.environ | variables, timeout=600)
    return FOLDER / "bin" / "slipway-runtime"


@pytest.mark.parametrize("providers", [OPENVINO, f"{OPENVINO},{CPU}"])
def test_a_model_is_served_by_openvino_and_answers_as_the_cpu_provider_does(
    tmp_path: Path, program: Path, providers: str
) -> None:
    answers = list[np.ndarray]()
    for folder, at, wanted in (("o", program, providers), ("c", None, CPU)):
        extra = {"SLIPWAY_PROVIDERS": wanted}
        more = {} if at is None else {"program": (at,)}
        with Server(tmp_path / folder, onnx_models.linear(), extra=extra, **more) as server:
            server.start().wait_until_ready(60)
            assert server.get("/health").json["providers"][0] == wanted.partition(",")[0]
            answers.append(np.array(server.post("/predict", X).json["y"]))
    np.testing.assert_allclose(answers[0], answers[1], rtol=1e-5)


def test_blobs_are_kept_from_one_start_to_the_next(tmp_path: Path, program: Path) -> None:
    engines = tmp_path / "engines"
    extra = {"SLIPWAY_PROVIDERS": OPENVINO, "SLIPWAY_ENGINE_CACHE_DIR": str(engines)}
    logs = list[str]()
    for _ in range(2):
        with Server(
            tmp_path / "s", onnx_models.linear(), extra=extra, program=(program,)
        ) as server:
            server.start().wait_until_ready(60)
            assert server.post("/predict", X).json["y"][1] == [7.0, 8.0]
            logs.append(server.log)
    assert "are kept for the next start" in logs[0]
    assert "are kept from an earlier start" in logs[1]
    (entry,) = (engines / "sha256").iterdir()
    assert [path for path in entry.rglob("*.blob") if path.stat().st_size]


def test_it_is_used_where_it_is_preferred(tmp_path: Path, program: Path) -> None:
    extra = {"SLIPWAY_PREFERRED_PROVIDERS": OPENVINO, "SLIPWAY_PROVIDERS": CPU}
    with Server(tmp_path, onnx_models.linear(), extra=extra, program=(program,)) as server:
        server.start().wait_until_ready(60)
        health = server.get("/health").json
        assert (health["providers"], health["passed_over"]) == ([OPENVINO, CPU], {})


def test_it_is_passed_over_where_it_is_preferred_on_a_device_that_is_not_here(
    tmp_path: Path, program: Path
) -> None:
    extra = {
        "SLIPWAY_PREFERRED_PROVIDERS": OPENVINO,
        "SLIPWAY_PROVIDERS": CPU,
        "SLIPWAY_PROVIDER_OPTIONS": json.dumps({OPENVINO: {"device_type": "GPU"}}),
        "SLIPWAY_ENGINE_CACHE_DIR": str(tmp_path / "engines"),
    }
    with Server(tmp_path, onnx_models.linear(), extra=extra, program=(program,)) as server:
        server.start().wait_until_ready(60)
        health = server.get("/health").json
        assert health["providers"] == [CPU]
        assert "left it out" in health["passed_over"][OPENVINO]
        assert "Device GPU is not available" in server.log
        assert server.post("/predict", X).json["y"][1] == [7.0, 8.0]


def test_an_option_that_it_does_not_know_ends_the_process_though_it_is_only_preferred(
    tmp_path: Path, program: Path
) -> None:
    extra = {
        "SLIPWAY_PREFERRED_PROVIDERS": OPENVINO,
        "SLIPWAY_PROVIDER_OPTIONS": json.dumps({OPENVINO: {"device_typo": "CPU"}}),
    }
    with Server(tmp_path, onnx_models.linear(), extra=extra, program=(program,)) as server:
        ended = server.start().wait_for_end(60)
    assert (ended.code, ended.termination["reason"]) == (2, "InvalidArguments")
    assert "device_typo" in ended.termination["message"]


def test_an_image_without_openvino_refuses_to_serve_with_it(tmp_path: Path) -> None:
    with Server(tmp_path, onnx_models.linear(), extra={"SLIPWAY_PROVIDERS": OPENVINO}) as server:
        assert server.start().process.wait(30) == 40
        assert f"the execution provider {OPENVINO} is required" in server.log

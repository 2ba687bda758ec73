"""Engines that a provider compiled: what they are kept under, and when they are used again."""

from __future__ import annotations

import dataclasses
import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from slipway_runtime.artifact.cache import Cache
from slipway_runtime.artifact.digest import Digest
from slipway_runtime.inference.engine_cache import (
    EngineKey,
    Machine,
    UnknownMachineError,
    engines,
    machine_of,
)

MODEL, OTHER = Digest("a" * 64), Digest("b" * 64)
TRT, OPENVINO, CPU = (
    "TensorrtExecutionProvider",
    "OpenVINOExecutionProvider",
    "CPUExecutionProvider",
)
MACHINE = Machine({"onnxruntime": "1.31.1", "tensorrt": "101300"}, "580.65", "H100 sm_90")
ENGINE = "TensorrtExecutionProvider_TRTKernel_graph_0_sm90.engine"


def load(
    root: Path | None,
    *,
    model: Digest = MODEL,
    machine: Machine = MACHINE,
    options: dict[str, str] | None = None,
    warm: bool = True,
) -> bool:
    """Load as `serve` does, with a provider that compiles if nothing is kept; return if it was."""
    with engines(root, model, [TRT, CPU], {TRT: options or {}}, lambda _provider: machine) as kept:
        folder = Path(kept.options[TRT]["trt_engine_cache_path"])
        if kept.found:
            assert (folder / ENGINE).read_bytes() == b"compiled"
        else:
            assert list(folder.iterdir()) == []
            (folder / ENGINE).write_bytes(b"compiled")
        if warm:
            kept.keep()
        return kept.found


def entries(root: Path) -> list[Path]:
    return list((root / "sha256").iterdir())


def test_engines_are_kept_for_the_next_start(tmp_path: Path) -> None:
    assert [load(tmp_path), load(tmp_path), load(tmp_path)] == [False, True, True]
    (entry,) = entries(tmp_path)
    told = json.loads((entry / "engines.json").read_text())
    assert told["key"]["machine"]["driver"] == "580.65"
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"model": OTHER},
        {"machine": dataclasses.replace(MACHINE, driver="590.1")},
        {"machine": dataclasses.replace(MACHINE, device="A100 sm_80")},
        {"machine": dataclasses.replace(MACHINE, libraries={**MACHINE.libraries, "tensorrt": "2"})},
        {"machine": dataclasses.replace(MACHINE, libraries={"onnxruntime": "1.32"})},
        {"options": {"trt_fp16_enable": "1"}},
    ],
    ids=["model", "driver", "device", "TensorRT", "onnxruntime", "options"],
)
def test_engines_for_something_else_are_not_used(tmp_path: Path, change: dict[str, object]) -> None:
    load(tmp_path)
    assert load(tmp_path, **change) is False  # type: ignore[arg-type]
    assert load(tmp_path) is True
    assert len(entries(tmp_path)) == 2


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda at: (at / ENGINE).write_bytes(b"compileD"), id="other bytes"),
        pytest.param(lambda at: (at / ENGINE).write_bytes(b"comp"), id="cut"),
        pytest.param(lambda at: (at / ENGINE).unlink(), id="gone"),
        pytest.param(lambda at: (at / "more.engine").write_bytes(b"x"), id="one more"),
        pytest.param(lambda at: (at / "engines.json").unlink(), id="no record"),
        pytest.param(lambda at: (at / "engines.json").write_text("{"), id="torn record"),
        pytest.param(
            lambda at: (at / "engines.json").write_text(
                (at / "engines.json").read_text().replace("580.65", "590.1")
            ),
            id="record of another driver",
        ),
    ],
)
def test_engines_that_do_not_verify_are_compiled_anew(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    load(tmp_path)
    damage(entries(tmp_path)[0])
    assert [load(tmp_path), load(tmp_path)] == [False, True]


def test_what_a_start_compiled_that_never_got_warm_is_not_kept(tmp_path: Path) -> None:
    load(tmp_path, warm=False)
    assert entries(tmp_path) == []
    assert list((tmp_path / "tmp").iterdir()) == []


def test_engines_that_cannot_be_kept_cost_a_warning_and_no_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Cache, "commit", full)
    assert load(tmp_path) is False
    assert f"no engines are kept: {tmp_path}: No space left on device" in caplog.text
    assert entries(tmp_path) == []


def test_nothing_is_kept_without_a_folder_or_on_an_unknown_machine(tmp_path: Path) -> None:
    def unknown(_provider: str) -> Machine:
        raise UnknownMachineError("no driver")

    for root, providers in ((None, [TRT]), (tmp_path, [TRT]), (tmp_path, [CPU])):
        with engines(root, MODEL, providers, {}, unknown) as kept:
            assert (kept.options, kept.found) == ({}, False)
            kept.keep()
    assert list(tmp_path.iterdir()) == []


def test_a_machine_without_a_gpu_is_unknown_to_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", missing)
    with pytest.raises(UnknownMachineError):
        machine_of(TRT)


def test_openvino_depends_on_the_processor_and_the_version() -> None:
    machine = machine_of(OPENVINO)
    assert machine.device
    assert machine.libraries["onnxruntime"]
    assert (
        EngineKey("m", OPENVINO, machine, {}).digest != EngineKey("n", OPENVINO, machine, {}).digest
    )

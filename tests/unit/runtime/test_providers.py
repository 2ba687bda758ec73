"""Preferred execution providers: used where they can be had, else passed over, and told of."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from runtime_kit import imitation_openvino, onnx_models
from runtime_kit.process import Server

from slipway_runtime.errors import Failure, InvalidModel, OutOfMemory, ProviderUnavailable
from slipway_runtime.inference.providers import Providers
from slipway_runtime.inference.session import load_failure

TRT, CUDA, OPENVINO, CPU = (
    "TensorrtExecutionProvider",
    "CUDAExecutionProvider",
    "OpenVINOExecutionProvider",
    "CPUExecutionProvider",
)
EVERY = [TRT, CUDA, OPENVINO, CPU]


class Session:
    def __init__(self, providers: Sequence[str]) -> None:
        self._providers = list(providers)

    def get_providers(self) -> list[str]:
        return self._providers


class Build:
    """Opens sessions on the CPU as ONNX Runtime does; ``fails`` cannot start, ``lacks`` is silent
    about it.
    """

    def __init__(
        self, fails: Sequence[str] = (), lacks: Sequence[str] = (), *, named: bool = True
    ) -> None:
        self.asked: list[list[str]] = []
        self._fails, self._lacks, self._named = fails, lacks, named

    def __call__(self, preferred: Sequence[str]) -> Session:
        self.asked.append(list(preferred))
        for name in preferred:
            if name in self._fails:
                raise ProviderUnavailable(
                    f"{name} cannot start: no device", provider=name if self._named else CUDA
                )
        return Session([name for name in preferred if name not in self._lacks] + [CPU])


class TestAmongThePreferred:
    def test_those_that_can_be_had_come_before_the_required_in_their_order(self):
        build = Build()
        session, passed_over = Providers([CPU], [TRT, CUDA], EVERY).open(build)
        assert session.get_providers() == [TRT, CUDA, CPU]
        assert passed_over == {}
        assert build.asked == [[TRT, CUDA]]

    def test_one_that_the_image_lacks_is_never_tried(self):
        build = Build()
        session, passed_over = Providers([CPU], [TRT, OPENVINO], [OPENVINO, CPU]).open(build)
        assert session.get_providers() == [OPENVINO, CPU]
        assert passed_over == {TRT: f"this image offers only {OPENVINO}, {CPU}"}
        assert build.asked == [[OPENVINO]]

    def test_one_that_cannot_start_makes_way_for_the_next(self):
        build = Build(fails=[CUDA])
        session, passed_over = Providers([CPU], [TRT, CUDA, OPENVINO], EVERY).open(build)
        assert session.get_providers() == [TRT, OPENVINO, CPU]
        assert passed_over == {CUDA: f"{CUDA} cannot start: no device"}

    def test_the_first_makes_way_where_the_failure_names_none_of_them(self):
        build = Build(fails=[TRT, OPENVINO], named=False)
        session, passed_over = Providers([CPU], [TRT, OPENVINO], EVERY).open(build)
        assert session.get_providers() == [CPU]
        assert list(passed_over) == [TRT, OPENVINO]

    def test_one_that_the_session_lacks_in_silence_is_told_and_the_session_kept(self):
        build = Build(lacks=[CUDA])
        session, passed_over = Providers([CPU], [CUDA], EVERY).open(build)
        assert session.get_providers() == [CPU]
        assert "left it out" in passed_over[CUDA]
        assert build.asked == [[CUDA]]

    def test_each_that_is_passed_over_is_logged_with_its_reason(
        self, caplog: pytest.LogCaptureFixture
    ):
        with caplog.at_level(logging.WARNING):
            Providers([CPU], [CUDA, OPENVINO], [OPENVINO, CPU]).open(Build(fails=[OPENVINO]))
        told = [record.getMessage() for record in caplog.records]
        assert [CUDA in told[0], OPENVINO in told[1]] == [True, True]
        assert "this image offers only" in told[0]
        assert "no device" in told[1]


@pytest.mark.parametrize("failure", [InvalidModel("no graph"), OutOfMemory("no room")])
def test_a_failure_that_no_provider_is_to_blame_for_is_not_tried_again(failure: Failure):
    tried = list[object]()

    def fail(preferred: Sequence[str]) -> Session:
        tried.append(preferred)
        raise failure

    with pytest.raises(type(failure)):
        Providers([CPU], [CUDA], EVERY).open(fail)
    assert len(tried) == 1


def test_a_required_provider_that_is_missing_fails_without_a_word_on_the_preferred(
    caplog: pytest.LogCaptureFixture,
):
    def fail(preferred: Sequence[str]) -> Session:
        raise ProviderUnavailable("CUDA is required", provider=CUDA)

    with pytest.raises(ProviderUnavailable, match="is required"):
        Providers([CUDA], [TRT], EVERY).open(fail)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("text", "blamed"),
    [
        ("CUDA failure 100: no CUDA-capable device is detected", CUDA),
        ("TensorRT EP failed to build an engine; CUDA is well", TRT),
        ("CUDNN_STATUS_NOT_INITIALIZED", TRT),
    ],
)
def test_the_provider_that_onnx_runtime_names_is_to_blame_or_else_the_first(text: str, blamed: str):
    failure = load_failure(RuntimeError(text), [TRT, CUDA, CPU])
    assert isinstance(failure, ProviderUnavailable)
    assert failure.provider == blamed
    assert failure.message.startswith(f"{blamed} cannot start")


# ---- serve ----


def served(folder: Path, preferred: str, imitated: bool = False, **variables: str) -> Server:
    extra = {"SLIPWAY_PREFERRED_PROVIDERS": preferred, "SLIPWAY_PROVIDERS": CPU, **variables}
    program: dict[str, Any] = {"program": imitation_openvino.PROGRAM} if imitated else {}
    return Server(folder, onnx_models.linear(), extra=extra, **program)


def series(server: Server) -> dict[str, float]:
    """The value of each provider in the metrics."""
    lines = server.get("/metrics").body.decode().splitlines()
    found = [line for line in lines if line.startswith("slipway_model_provider{")]
    return {
        line.partition('provider="')[2].partition('"')[0]: float(line.rpartition(" ")[2])
        for line in found
    }


@pytest.mark.parametrize("preferred", [OPENVINO, CUDA, f"{TRT},{CUDA}"])
def test_a_preferred_provider_that_is_not_here_is_passed_over_and_told_everywhere(
    tmp_path: Path, preferred: str
):
    names = preferred.split(",")
    with served(tmp_path, preferred) as server:
        server.start().wait_until_ready()
        health = server.get("/health").json
        assert health["providers"] == [CPU]
        assert list(health["passed_over"]) == names
        for name in names:
            assert "this image offers only" in health["passed_over"][name]
            lines = [line for line in server.log.splitlines() if f"{name} is passed over" in line]
            assert [json.loads(line)["level"] for line in lines] == ["warning"]
        assert series(server) == {CPU: 1.0, **dict.fromkeys(names, 0.0)}
        assert server.post("/predict", [1, 2, 3, 4]).json == {"y": [41, 51]}


def test_a_preferred_provider_that_is_here_is_used_first(tmp_path: Path):
    with served(tmp_path, OPENVINO, imitated=True) as server:
        server.start().wait_until_ready()
        health = server.get("/health").json
        assert (health["providers"], health["passed_over"]) == ([OPENVINO, CPU], {})
        assert series(server) == {OPENVINO: 1.0, CPU: 1.0}
        assert "passed over:" not in server.log


@pytest.mark.parametrize(
    ("variable", "reason"),
    [
        ({"IMITATION_FAILS": "[OpenVINO] the device GPU is not available"}, "device GPU is not"),
        ({"IMITATION_LEFT_OUT": "1"}, "left it out"),
    ],
)
def test_a_preferred_provider_that_cannot_start_is_passed_over(
    tmp_path: Path, variable: dict[str, str], reason: str
):
    with served(tmp_path, OPENVINO, imitated=True, **variable) as server:
        server.start().wait_until_ready()
        health = server.get("/health").json
        assert health["providers"] == [CPU]
        assert reason in health["passed_over"][OPENVINO]
        assert series(server)[OPENVINO] == 0.0


def test_a_required_provider_that_cannot_start_still_ends_the_process(tmp_path: Path):
    extra = {"SLIPWAY_PROVIDERS": OPENVINO, "IMITATION_LEFT_OUT": "1"}
    with served(tmp_path, CUDA, imitated=True, **extra) as server:
        ended = server.start().wait_for_end(20)
    assert (ended.code, ended.termination["reason"]) == (40, "ProviderUnavailable")
    assert OPENVINO in ended.termination["message"]


def test_several_workers_tell_of_a_provider_that_any_of_them_passed_over(tmp_path: Path):
    with served(tmp_path, CUDA, SLIPWAY_WORKERS="2") as server:
        server.start().wait_until_ready()
        assert series(server) == {CPU: 1.0, CUDA: 0.0}


# ---- engines ----


def test_engines_of_a_preferred_provider_are_kept_for_the_next_start(tmp_path: Path):
    kept = {"SLIPWAY_ENGINE_CACHE_DIR": str(tmp_path / "engines")}
    logs = list[str]()
    for _ in range(2):
        with served(tmp_path, OPENVINO, imitated=True, **kept) as server:
            server.start().wait_until_ready()
            logs.append(server.log)
    assert "are kept for the next start" in logs[0]
    assert "are kept from an earlier start" in logs[1]


def test_what_a_provider_began_that_was_passed_over_is_not_kept(tmp_path: Path):
    engines = tmp_path / "engines"
    variables = {
        "SLIPWAY_ENGINE_CACHE_DIR": str(engines),
        "IMITATION_FAILS": "[OpenVINO] no device",
    }
    with served(tmp_path, OPENVINO, imitated=True, **variables) as server:
        server.start().wait_until_ready()
        assert "no device" in server.get("/health").json["passed_over"][OPENVINO]
    assert list((engines / "sha256").iterdir()) == []


def test_a_folder_for_engines_that_cannot_be_written_stops_nothing(tmp_path: Path):
    (tmp_path / "engines").write_text("a file")
    kept = {"SLIPWAY_ENGINE_CACHE_DIR": str(tmp_path / "engines")}
    with served(tmp_path, OPENVINO, imitated=True, **kept) as server:
        server.start().wait_until_ready()
        assert server.get("/health").json["providers"] == [OPENVINO, CPU]
        assert "SLIPWAY_ENGINE_CACHE_DIR) cannot be written" in server.log

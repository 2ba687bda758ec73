"""`slipway inspect` tells which nodes each execution provider would leave to the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from cli_kit import models
from cli_kit.run import slipway
from onnx import helper

from slipway.model import ort, providers

Save = Callable[..., Path]

CUDA, TENSORRT, OPENVINO = (f"{name}ExecutionProvider" for name in ("CUDA", "Tensorrt", "OpenVINO"))


def node(operator: str, domain: str = "", opset: int = 20, **attributes: Any) -> bytes:
    """A model of one node, of which nothing but operator and opset matters."""
    made = helper.make_node(operator, ["x"], ["y"], f"the_{operator}", domain=domain, **attributes)
    graph = helper.make_graph(
        [made], "g", [models.tensor("x", ["n", 4])], [models.tensor("y", ["n", 4])]
    )
    imports = [helper.make_opsetid("", opset)]
    if domain:
        imports.append(helper.make_opsetid(domain, 1))
    return helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString()


def told(path: Path) -> dict[str, Any]:
    found = slipway("inspect", path, "--no-load", "--json").json["providers"]
    return {item["provider"]: item for item in found}


def test_what_a_provider_has_is_taken_whole(linear: Path) -> None:
    found = told(linear)
    assert set(found) == {CUDA, TENSORRT, OPENVINO}
    for item in found.values():
        assert (item["nodes"], item["taken"], item["fallback"]) == (1, 1, {})
        assert item["asked"] is False
        assert item["source"]


@pytest.mark.parametrize(
    ("content", "provider", "taken"),
    [
        (node("Relu"), CUDA, True),
        (node("Det"), CUDA, False),
        (node("TreeEnsembleRegressor", "ai.onnx.ml"), CUDA, False),
        (node("FastGelu", "com.microsoft"), CUDA, True),
        (node("FastGelu", "com.microsoft"), TENSORRT, False),
        (node("Det"), TENSORRT, False),
        (node("NonZero"), OPENVINO, True),
        (node("GRU"), OPENVINO, False),
    ],
)
def test_an_operator_without_a_kernel_is_left_to_the_cpu_by_name(
    saved: Save, content: bytes, provider: str, taken: bool
) -> None:
    item = told(saved(content))[provider]
    (made,) = onnx.load_model_from_string(content).graph.node
    label = f"{made.domain}.{made.op_type}" if made.domain else made.op_type
    assert item["fallback"] == ({} if taken else {label: [made.name]})
    assert item["taken"] == taken


@pytest.mark.parametrize(
    ("first", "last", "since", "covers"),
    [(13, 0, 13, True), (6, 12, 7, True), (6, 12, 13, False), (13, 0, 20, False)],
)
def test_a_kernel_counts_for_the_versions_that_it_was_made_for(
    first: int, last: int, since: int, covers: bool
) -> None:
    assert providers._covers(first, last, since) is covers


def test_an_operator_that_others_define_is_taken_where_those_are(saved: Save) -> None:
    # No provider has a kernel of it; ONNX defines it by ReduceMean, Sub, Mul and others.
    content = node("MeanVarianceNormalization", axes=[0, 1])
    assert told(saved(content))[CUDA]["fallback"] == {}


def test_onnx_runtime_itself_is_asked_where_it_has_the_provider(
    linear: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of the providers here only the CPU's can be asked: in the place of another, it leaves all.
    monkeypatch.setattr(providers, "_tables", lambda: {providers.CPU: {}})
    (found,) = providers.coverage(linear)
    assert found.asked is True
    assert ort.VERSION in found.source
    assert list(found.fallback) == ["Gemm"]


def test_a_provider_that_is_not_usable_here_is_told_from_the_table(
    linear: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort, "providers", lambda: [CUDA])
    monkeypatch.setattr(ort, "assignment", lambda *_: None)
    assert [item.asked for item in providers.coverage(linear)] == [False] * 3


def test_a_person_sees_who_takes_what(saved: Save) -> None:
    out = slipway("inspect", saved(node("Det")), "--no-load").out
    assert "CUDA" in out
    assert "0 of 1 nodes" in out
    assert "Det 1" in out

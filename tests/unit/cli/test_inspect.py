"""`slipway inspect`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from cli_kit import models
from cli_kit.models import digest_of
from cli_kit.run import slipway
from onnx import TensorProto, helper

Save = Callable[..., Path]


def two_outputs_of_one_name() -> bytes:
    nodes = [
        helper.make_node("Identity", ["x"], ["y"]),
    ]
    y = models.tensor("y", ["n", 2])
    return models.build(nodes, [models.tensor("x", ["n", 2])], [y, y])


def one_node(node: onnx.NodeProto, domain: str = "", opset: int = 21) -> bytes:
    graph = helper.make_graph(
        [node], "g", [models.tensor("x", ["n", 2])], [models.tensor("y", ["n", 2])]
    )
    opsets = [helper.make_opsetid("", opset)]
    if domain:
        opsets.append(helper.make_opsetid(domain, 1))
    model = helper.make_model(graph, opset_imports=opsets)
    model.ir_version = 10
    return model.SerializeToString()


def bf16_input() -> bytes:
    x = helper.make_tensor_value_info("x", TensorProto.BFLOAT16, ["n", 2])
    cast = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
    return models.build([cast], [x], [models.tensor("y", ["n", 2])])


def with_metadata() -> bytes:
    model = onnx.load_model_from_string(models.linear())
    helper.set_model_props(model, {"licence": "Apache-2.0"})
    return model.SerializeToString()


def test_signature_opset_size_and_operators_are_told(saved: Save) -> None:
    content = with_metadata()
    told = slipway("inspect", saved(content), "--json").json
    assert told["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["n", 4]}]
    assert told["outputs"] == [{"name": "y", "datatype": "FP32", "shape": ["n", 2]}]
    assert told["opsets"] == {"ai.onnx": 21}
    assert told["operators"] == {"Gemm": 1}
    assert told["parameters"] == 10
    assert told["size"] == len(content)
    assert told["digest"] == digest_of(content)
    assert told["metadata"] == {"licence": "Apache-2.0"}
    assert told["batchable"] is True
    assert told["findings"] == []


def test_a_person_sees_a_table_with_the_names_of_dimensions(linear: Path) -> None:
    ended = slipway("inspect", linear)
    assert ended.code == 0
    assert "[n, 4]" in ended.out
    assert "batchable" in ended.out
    assert "\x1b" not in ended.out
    assert ended.err == ""


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (two_outputs_of_one_name(), "duplicate-output"),
        (one_node(helper.make_node("Identity", ["x"], ["y"]), opset=999), "unsupported-opset"),
        (
            one_node(helper.make_node("Whirl", ["x"], ["y"], domain="acme"), "acme"),
            "custom-operator",
        ),
        (one_node(helper.make_node("Whirl", ["x"], ["y"])), "unknown-operator"),
        (bf16_input(), "bf16-input"),
        (one_node(helper.make_node("Gelu", ["x"], ["y"]), opset=13), "unknown-operator"),
        (one_node(helper.make_node("Add", ["x", "absent"], ["y"])), "refused"),
    ],
)
def test_what_would_be_refused_is_named_before_it_is_served(
    saved: Save, content: bytes, code: str
) -> None:
    path = saved(content)
    ended = slipway("inspect", path, "--json")
    assert ended.code == 3
    assert ended.json["servable"] is False
    assert code in [finding["code"] for finding in ended.json["findings"]]
    assert all(finding["remedy"] for finding in ended.json["findings"])
    assert "error" in slipway("inspect", path).out


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ([1, 2], "dimension 0 of input 'x' is fixed at 1"),
        ([], "input 'x' is a scalar"),
        (None, "input 'x' has no shape"),
    ],
)
def test_why_requests_cannot_be_batched(saved: Save, shape: list[int] | None, reason: str) -> None:
    told = slipway("inspect", saved(models.identity(shape=shape)), "--json").json
    assert told["batchable"] is False
    assert reason in told["notBatchable"]


def test_inputs_with_batches_of_different_names_cannot_be_batched(saved: Save) -> None:
    content = models.build(
        [helper.make_node("MatMul", ["a", "b"], ["y"])],
        [models.tensor("a", ["n", 3]), models.tensor("b", ["m", 3])],
        [models.tensor("y", ["n", "k"])],
    )
    told = slipway("inspect", saved(content), "--no-load", "--json").json
    assert "the inputs' first dimensions have different names: m, n" in told["notBatchable"]


def test_external_data_counts_and_is_missed(folder: Path) -> None:
    path = models.with_external_data(folder)
    told = slipway("inspect", path, "--json").json
    assert told["externalFiles"] == ["w.bin"]
    assert told["size"] == path.stat().st_size + 64 * 64 * 4
    assert told["servable"] is True
    (folder / "w.bin").unlink()
    ended = slipway("inspect", path, "--json")
    assert ended.code == 3
    assert ended.json["findings"][0]["code"] == "missing-external-data"


def test_what_is_no_onnx_file_is_refused_with_the_command_that_helps(saved: Save) -> None:
    for name, told in {
        "m.onnx": "whole",
        "m.pt": "slipway export",
        "m.pkl": "slipway export",
    }.items():
        ended = slipway("inspect", saved(b"\x80\x04 no model", name))
        assert ended.code == 3
        assert told in ended.err

"""Which files belong to a model is told from its form, as the onnx package would tell it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_kit import models
from onnx import TensorProto, helper

from slipway.errors import InvalidModel, SlipwayError
from slipway.model import form, graph

Save = Callable[..., Path]


def lying_in(*names: str) -> list[onnx.TensorProto]:
    """Tensors whose values are in other files."""
    found: list[onnx.TensorProto] = []
    for name in names:
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("offset", "0"), ("location", name), ("length", "4")):
            tensor.external_data.append(onnx.StringStringEntryProto(key=key, value=value))
        found.append(tensor)
    return found


def everywhere() -> bytes:
    """Tensors elsewhere as an initializer, a constant, and within the branches of an If."""
    outer, constant, inner, deepest = lying_in("a.bin", "sub/b.bin", "c.bin", "d.bin")
    output = models.tensor("z", [1])
    branches = {
        name: helper.make_graph([helper.make_node("Constant", [], ["z"], value=held)], name, [], [
            output
        ], [inner])
        for name, held in (("then_branch", deepest), ("else_branch", deepest))
    }  # fmt: skip
    return models.build(
        [
            helper.make_node("Constant", [], ["c"], value=constant),
            helper.make_node("If", ["x"], ["y"], **branches),
        ],
        [models.tensor("x", [])],
        [models.tensor("y", [1])],
        [outer, models.constant("w", np.zeros(4096))],
    )


MODELS = {
    "no other file": models.linear(),
    "weights beside it": models.build([], [], [models.tensor("w", [1])], lying_in("w.bin")),
    "in every place": everywhere(),
}


@pytest.mark.parametrize("content", MODELS.values(), ids=MODELS)
def test_the_files_of_a_model_are_those_that_onnx_sees(saved: Save, content: bytes) -> None:
    path = saved(content)
    assert form.external_files(path) == graph.external_files(graph.read(path))


def test_files_are_found_wherever_a_tensor_may_stand(saved: Save) -> None:
    assert form.external_files(saved(everywhere())) == ["a.bin", "c.bin", "d.bin", "sub/b.bin"]


NO_MODELS = {
    "empty": b"",
    "text": b"no model at all",
    "garbage": b"\xff" * 40,
    "an endless number": b"\x80" * 12,
    "no graph": onnx.ModelProto(ir_version=9).SerializeToString(),
}


@pytest.mark.parametrize("content", NO_MODELS.values(), ids=NO_MODELS)
def test_what_is_no_model_is_refused(saved: Save, content: bytes) -> None:
    with pytest.raises(InvalidModel):
        form.external_files(saved(content))


def test_a_file_that_was_cut_anywhere_is_refused_or_as_onnx_reads_it(saved: Save) -> None:
    whole = everywhere()
    for length in range(0, len(whole), 7):
        path = saved(whole[:length])
        try:
            expected = graph.external_files(graph.read(path))
        except InvalidModel:
            with pytest.raises(InvalidModel):
                form.external_files(path)
        else:
            assert form.external_files(path) == expected


@pytest.mark.parametrize("name", ["../w.bin", "/etc/passwd", "a/../../w.bin"])
def test_a_name_that_leads_out_of_the_folder_is_refused(saved: Save, name: str) -> None:
    with pytest.raises(SlipwayError, match="outside of its folder"):
        form.external_files(saved(models.build([], [], [models.tensor("w", [1])], lying_in(name))))

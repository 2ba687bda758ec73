"""`slipway export` without any framework: what is recognised, refused and explained."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from cli_kit.run import slipway

from slipway.export.obstacles import recognise, summary


def test_a_framework_that_is_not_installed_is_named_with_its_extra(folder: Path) -> None:
    with zipfile.ZipFile(folder / "m.pt", "w") as archive:
        archive.writestr("m/code/__torch__.py", "")
    ended = slipway("export", "m.pt", "--input", "x=FP32[batch,4]")
    assert ended.code == 9
    assert "slipway[torch]" in ended.err


def test_a_pickle_is_not_read_without_trust(folder: Path) -> None:
    (folder / "m.pkl").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    ended = slipway("export", "m.pkl")
    assert ended.code == 11
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    ("model", "code", "told"),
    [
        ("absent_module:model", 5, "no module 'absent_module'"),
        ("json:absent", 5, "json has no 'absent'"),
        ("absent.pt", 5, "there is no absent.pt"),
        ("text.txt", 2, "module:attribute"),
    ],
)
def test_what_is_no_model_is_refused(folder: Path, model: str, code: int, told: str) -> None:
    (folder / "text.txt").write_text("text")
    ended = slipway("export", model, "--input", "x=FP32[batch,4]")
    assert ended.code == code
    assert told in ended.err


@pytest.mark.parametrize("text", ["x", "x=FP32", "x=FLOAT[2]", "x=FP32[a b]", "=FP32[2]"])
def test_an_input_of_another_form_is_refused(text: str) -> None:
    ended = slipway("export", "json:dumps", "--input", text)
    assert ended.code == 2
    assert "x=FP32[batch,4]" in ended.err


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("GuardOnDataDependentSymNode: Could not guard on Eq(u0, 1)", "branches on a tensor"),
        ("Converting a tensor to a Python boolean might cause", "branches on a tensor"),
        ("Converting a tensor to a Python integer might cause", "plain number"),
        ("Constraints violated (batch)! You marked batch as dynamic but", "a constant"),
        ("No ONNX function found for <OpOverload(op='acme.whirl')>", "no counterpart"),
        ("Duplicate definition-site for (y)", "returned twice"),
    ],
)
def test_known_obstacles_are_recognised(text: str, name: str) -> None:
    found = recognise(text)
    assert found is not None
    assert name in found.name
    assert found.remedy


def test_an_unknown_error_is_shown_by_its_sentence() -> None:
    assert recognise("something else") is None
    long = "Failed.\x1b[96mstep\n- Debug\n\n## Exception summary\n\n<class 'X'>: the reason\nmore"
    assert summary(RuntimeError(long)) == "<class 'X'>: the reason"

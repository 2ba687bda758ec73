"""`slipway export` without any framework: what is recognised, refused and explained."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from cli_kit.run import process, slipway

from slipway.export.mlflow import environment
from slipway.export.mlflow.folder import read
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


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def broken(:", "SyntaxError"),
        ("raise ValueError('no data')", "ValueError: no data"),
        ("import json\njson.absent", "AttributeError"),
        ("from json import absent", "ImportError"),
        ("raise SystemExit('stop')", "SystemExit: stop"),
    ],
)
def test_a_module_that_fails_when_it_is_imported_is_told(
    folder: Path, text: str, told: str
) -> None:
    (folder / "failing.py").write_text(text + "\n")
    ended = process("export", "failing:model", cwd=folder)
    assert ended.code == 2
    assert "failing cannot be imported" in ended.err
    assert told in ended.err


def test_a_pickle_whose_class_is_not_here_is_told(folder: Path) -> None:
    (folder / "m.pkl").write_bytes(b"\x80\x04c__main__\nMine\n)\x81.")
    ended = slipway("export", "m.pkl", "--trust-pickle")
    assert ended.code == 2
    assert "needs a class that is not to be found here" in ended.err
    assert "must go into a module" in ended.err


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--batch-sizes", "0"), "at least 1"),
        (("--dim", "seq=0"), "at least 1"),
        (("--range", "nan:nan"), "both bounds must be numbers"),
        (("--rtol", "nan"), "no number from 0 up"),
        (("--atol", "-1"), "no number from 0 up"),
        (("--no-random",), "nothing to compare on"),
    ],
)
def test_what_nothing_can_be_compared_by_is_refused(
    folder: Path, flags: tuple[str, ...], told: str
) -> None:
    ended = slipway("export", "json:dumps", "--input", "x=FP32[batch,4]", *flags)
    assert ended.code == 2
    assert told in ended.err


def test_an_mlflow_model_that_holds_a_pickle_is_not_loaded_without_trust(folder: Path) -> None:
    (folder / "m").mkdir()
    (folder / "m/MLmodel").write_text("flavors: {sklearn: {pickled_model: model.pkl}}\n")
    ended = slipway("export", "m")
    assert ended.code == 11
    assert "m (sklearn) holds a pickle" in ended.err
    without = slipway("export", "m", "--trust-pickle")
    assert without.code == 2
    assert "--env current" in without.err


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("flavors: {prophet: {data: x}}", "prophet, none of which can be exported"),
        ("flavors: {python_function: {loader_module: mine}}", "none of which"),
        ("flavors: [", "no MLmodel file"),
        ("text", "no MLmodel file"),
    ],
)
def test_an_mlflow_model_of_another_flavour_is_refused(
    folder: Path, content: str, told: str
) -> None:
    (folder / "m").mkdir()
    (folder / "m/MLmodel").write_text(content)
    ended = slipway("export", "m")
    assert ended.code == 2
    assert told in ended.err


def test_the_columns_and_tensors_of_a_signature_are_read(folder: Path) -> None:
    columns = '[{"type": "double", "name": "age"}, {"type": "long", "name": "term"}]'
    tensor = '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3, -1]}}]'
    for name, inputs in (("columns", columns), ("tensor", tensor)):
        (folder / name).mkdir()
        (folder / name / "MLmodel").write_text(
            f"flavors: {{pytorch: {{model_data: data}}}}\nsignature: {{inputs: '{inputs}'}}\n"
        )
    assert read(folder / "columns").columns == {"age": "FP64", "term": "INT64"}
    (given,) = read(folder / "tensor").tensors
    assert (given.name, given.datatype, given.shape) == ("input", "FP32", ("batch", 3, "size_2"))


@pytest.mark.parametrize(
    ("requirements", "converts"),
    [
        ("scikit-learn==1.7\n", False),
        ("scikit-learn==1.7\nLightGBM==4.6\n", True),
        ("xgboost\n", True),
    ],
)
def test_a_models_environment_gets_what_converts_its_estimators(
    folder: Path, monkeypatch: pytest.MonkeyPatch, requirements: str, converts: bool
) -> None:
    (folder / "MLmodel").write_text("flavors:\n  sklearn: {pickled_model: model.pkl}\n")
    (folder / "requirements.txt").write_text(requirements)
    ran: list[list[str]] = []
    monkeypatch.setattr(environment, "_run", ran.append)
    environment.make(read(folder), folder)
    installed = ran[-1]
    assert "skl2onnx" in installed
    assert ("onnxmltools" in installed) is converts


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
        ("Unsupported: interpolate with recompute_scale_factor", "interpolation"),
        ("Unsupported: ONNX export of operator upsample_bicubic2d", "interpolation"),
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

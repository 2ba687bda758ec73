"""Golden samples: what passes, what ends the load, and how it is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import helper, numpy_helper
from runtime_kit import onnx_models, packages
from runtime_kit.process import Server
from runtime_kit.process import run as run_command

from slipway_runtime import errors
from slipway_runtime.artifact.manifest import Tolerance
from slipway_runtime.inference import golden
from slipway_runtime.inference.model import Model
from slipway_runtime.inference.tensors import DATATYPES, TensorSpec
from slipway_runtime.inference.trial import limits_for

LoadModel = Callable[[bytes], Model]
EXACT = Tolerance(rtol=0.0, atol=0.0)
X, Y = [[1, 2, 3, 4]], [[41, 51]]


def spec(datatype: str) -> TensorSpec:
    return TensorSpec("y", DATATYPES[datatype], None)


def of(datatype: str, *values: Any) -> Any:
    return np.array(values, dtype=DATATYPES[datatype].dtype)


@pytest.mark.parametrize(
    ("datatype", "got", "wanted", "tolerance", "passes"),
    [
        ("FP32", [1.0], [1.0], EXACT, True),
        ("FP32", [1.5], [1.0], Tolerance(rtol=0.0, atol=0.5), True),
        ("FP32", [1.5], [1.0], Tolerance(rtol=0.0, atol=0.4), False),
        ("FP32", [100.0, 0.0], [101.0, 0.0], Tolerance(rtol=0.01, atol=0.0), True),
        ("FP32", [101.0, 0.001], [101.0, 0.0], Tolerance(rtol=0.01, atol=0.0), False),
        ("FP32", [np.nan], [1.0], Tolerance(rtol=1e9, atol=1e9), False),
        ("FP32", [np.inf], [1.0], Tolerance(rtol=1e9, atol=1e9), False),
        ("FP64", [1.0 + 1e-9], [1.0], Tolerance(rtol=1e-8, atol=0.0), True),
        ("INT64", [2**62 + 1], [2**62 + 1], EXACT, True),
        ("INT64", [2], [1], EXACT, False),
        ("INT64", [2**62 + 1], [2**62], EXACT, False),
        ("INT64", [20000], [20001], Tolerance(rtol=0.01, atol=1e-5), False),
        ("INT64", [20000], [20001], Tolerance(rtol=0.0, atol=1.0), True),
        ("UINT8", [0], [255], Tolerance(rtol=0.0, atol=254.0), False),
        ("BOOL", [True], [False], Tolerance(rtol=1e9, atol=1e9), False),
        ("BYTES", ["ja"], ["nein"], Tolerance(rtol=1e9, atol=1e9), False),
        ("BYTES", ["ja"], ["ja"], EXACT, True),
        ("BF16", [0x3F80], [0x3F81], Tolerance(rtol=0.01, atol=0.0), True),
        ("BF16", [0x3F80], [0x4080], Tolerance(rtol=0.01, atol=0.0), False),
        ("FP32", [1.0, 2.0], [1.0], Tolerance(rtol=1e9, atol=1e9), False),
    ],
)
def test_what_passes_follows_the_formula(
    datatype: str, got: list[Any], wanted: list[Any], tolerance: Tolerance, passes: bool
) -> None:
    found = golden.difference(spec(datatype), of(datatype, *got), of(datatype, *wanted), tolerance)
    assert (found is None) is passes


ANY = arrays.arrays(np.float32, arrays.array_shapes(min_dims=0, max_dims=3, max_side=3))


@given(ANY, st.floats(0, 10), st.floats(0, 10))
def test_the_formula_agrees_with_numpys(values: Any, rtol: float, atol: float) -> None:
    wanted = np.ones_like(values)
    found = golden.difference(spec("FP32"), values, wanted, Tolerance(rtol=rtol, atol=atol))
    close = np.abs(values.astype(np.float64) - 1) <= atol + rtol * np.ones_like(values, np.float64)
    assert (found is None) == bool(close.all())
    if found is not None:
        assert found.count == np.count_nonzero(~close)


def test_the_worst_element_is_named(load_model: LoadModel) -> None:
    model = load_model(onnx_models.linear())
    wanted = np.array([[41, 51.5], [7, 9]], np.float32)
    got = np.array([[41, 51], [7, 8]], np.float32)
    found = golden.difference(model.output_spec("y"), got, wanted, EXACT)
    assert found == golden.Difference(1.0, 2, "at [1, 1] got 8.0, golden is 9.0")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("outputs"), "'outputs' is missing"),
        (lambda s: s["inputs"].clear(), "input 'x' is missing"),
        (lambda s: s["outputs"].clear(), "no outputs"),
        (lambda s: s["outputs"][0].update(name="z"), "no output 'z'"),
        (lambda s: s["inputs"][0].update(name="z"), "'z'"),
        (lambda s: s["inputs"][0].update(shape=[2, 4]), "has 8 elements"),
        (lambda s: s["inputs"][0].update(shape=[1, -4]), "no list of sizes"),
        (lambda s: s["inputs"][0].update(shape=[4, 1]), "must be 4, not 1"),
        (lambda s: s["inputs"][0].update(datatype="INT64"), "is FP32 in the model"),
        (lambda s: s["outputs"][0].update(data=["1", "2"]), "expected a number"),
        (lambda s: s["outputs"].append(s["outputs"][0]), "requested 2 times"),
        (lambda s: s.update(inputs=3), "cannot be read"),
        (lambda s: s["inputs"].append(7), "cannot be read"),
    ],
)
def test_samples_that_do_not_fit_the_model_are_refused(
    tmp_path: Path, load_model: LoadModel, change: Callable[[Any], object], message: str
) -> None:
    document = json.loads(packages.golden(({"x": X}, {"y": Y})))
    change(document["samples"][0])
    path = tmp_path / "golden.json"
    path.write_text(json.dumps(document))
    with pytest.raises(errors.InvalidModel, match=message):
        golden.read(path, load_model(onnx_models.linear()))


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"samples": []}', b'{"samples": 1}'])
def test_what_holds_no_samples_is_refused(
    tmp_path: Path, load_model: LoadModel, content: bytes
) -> None:
    path = tmp_path / "golden.json"
    path.write_bytes(content)
    with pytest.raises(errors.InvalidModel, match=r"golden samples in golden\.json"):
        golden.read(path, load_model(onnx_models.linear()))


def test_rows_of_samples_show_that_a_model_must_not_batch(
    tmp_path: Path, load_model: LoadModel
) -> None:
    path = tmp_path / "golden.json"
    rows = [[1.0, 2.0], [3.0, 5.0]]
    mean = [[-1.0, -1.5], [1.0, 1.5]]
    path.write_bytes(packages.golden(({"x": rows}, {"y": mean})))
    model = load_model(onnx_models.mean_over_rows())
    samples = golden.read(path, model)
    golden.check(model, samples, EXACT)
    typical = golden.rows(model, samples)
    assert [row["x"].tolist() for row in typical] == [[rows[0]], [rows[1]]]
    assert limits_for(model, 8, 0, typical=typical).max_rows == 1


def test_the_tolerance_of_samples_is_that_of_the_trial_of_batches(load_model: LoadModel) -> None:
    model = load_model(onnx_models.adds_rows_beyond(1))
    for atol, rows in ((9.0, 8), (6.5, 1)):
        tolerance = Tolerance(rtol=0.0, atol=atol)
        assert limits_for(model, 8, 0, tolerance=tolerance).max_rows == rows


def test_a_package_may_say_how_large_batches_may_be(load_model: LoadModel) -> None:
    model = load_model(onnx_models.linear())
    assert limits_for(model, 0, 0, hint=64).max_rows == 64
    assert limits_for(model, 0, 0, hint=1).max_rows == 1
    assert limits_for(model, 4, 0, hint=1).max_rows == 4


def test_samples_of_a_model_without_inputs_have_no_rows(load_model: LoadModel) -> None:
    value = numpy_helper.from_array(np.ones(2, np.float32))
    constant = helper.make_node("Constant", [], ["y"], value=value)
    model = load_model(onnx_models.build([constant], [], [onnx_models.tensor("y", [2])]))
    samples = [golden.Sample({}, {"y": np.ones(2, np.float32)})]
    golden.check(model, samples, EXACT)
    assert golden.rows(model, samples) == []


# ---- serve ----


def served(tmp_path: Path, model: bytes, samples: bytes, tolerance: dict[str, float]) -> Server:
    files = {"model.onnx": ("model", model), "golden.json": ("golden", samples)}
    digest = packages.write(tmp_path / "p", files, golden=tolerance, inputs=[], outputs=[])
    uri = f"file://{tmp_path}/p/slipway.json"
    ended = run_command(tmp_path, "fetch", "--uri", uri, "--digest", digest)
    assert ended.code == 0, ended.log
    return Server.of_cached(tmp_path, digest).start()


def test_a_model_that_computes_something_else_never_becomes_ready(tmp_path: Path) -> None:
    samples = packages.golden(({"x": X}, {"y": Y}), ({"x": X * 2}, {"y": [[41, 51], [41, 51.25]]}))
    with served(tmp_path, onnx_models.linear(), samples, {"rtol": 0.001, "atol": 0}) as server:
        ended = server.wait_for_end()
    assert ended.code == 23
    told = ended.termination
    assert {name: told[name] for name in told if name != "message"} == {
        "reason": "GoldenMismatch",
        "output": "y",
        "sample": 1,
        "maxDifference": "0.25",
        "atol": "0",
        "rtol": "0.001",
    }
    assert "output 'y' differs by up to 0.25" in told["message"]
    assert "0 + 0.001 * |golden|" in told["message"]
    assert "phase ready" not in ended.log


def test_golden_inputs_warm_a_model_that_zeros_cannot(tmp_path: Path) -> None:
    samples = packages.golden(({"x": [1, 2, 3, 4]}, {"y": [[1, 2], [3, 4]]}))
    model = onnx_models.fails_when_warm()
    with served(tmp_path, model, samples, {"rtol": 0, "atol": 0}) as server:
        server.wait_until_ready()
        assert server.post("/predict", [1, 2, 3, 4]).json == {"y": [[1, 2], [3, 4]]}


def test_a_sample_that_the_model_cannot_run_is_told(tmp_path: Path) -> None:
    samples = packages.golden(({"x": [1, 2, 3]}, {"y": [[1, 2], [3, 4]]}))
    model = onnx_models.fails_when_warm()
    with served(tmp_path, model, samples, {"rtol": 0, "atol": 0}) as server:
        ended = server.wait_for_end()
    assert (ended.code, ended.termination["reason"]) == (25, "WarmupFailed")
    assert "on a golden sample" in ended.termination["message"]


# ---- given with the setting, beside a bare file or a package ----


def given(*samples: Any, **more: Any) -> dict[str, str]:
    return {"SLIPWAY_GOLDEN": json.dumps(json.loads(packages.golden(*samples)) | more)}


def test_samples_of_the_setting_hold_a_bare_file_to_what_they_say(tmp_path: Path) -> None:
    extra = given(({"x": X}, {"y": Y}))
    with Server(tmp_path, onnx_models.linear(), extra=extra) as server:
        server.start().wait_until_ready()
        assert "1 golden samples came out as they must" in server.log


@pytest.mark.parametrize(
    ("tolerance", "code"), [({}, 23), ({"atol": 0.5}, None), ({"rtol": 0.001}, 23)]
)
def test_the_tolerance_of_the_setting_decides(
    tmp_path: Path, tolerance: dict[str, float], code: int | None
) -> None:
    extra = given(({"x": X}, {"y": [[41, 51.25]]}), **tolerance)
    with Server(tmp_path, onnx_models.linear(), extra=extra) as server:
        server.start()
        if code is None:
            server.wait_until_ready()
            return
        ended = server.wait_for_end()
    assert (ended.code, ended.termination["reason"]) == (code, "GoldenMismatch")
    assert "phase ready" not in ended.log


def test_samples_of_the_setting_are_checked_beside_those_of_a_package(tmp_path: Path) -> None:
    files = {
        "model.onnx": ("model", onnx_models.linear()),
        "golden.json": ("golden", packages.golden(({"x": X}, {"y": Y}))),
    }
    tolerance = {"rtol": 0, "atol": 0}
    digest = packages.write(tmp_path / "p", files, golden=tolerance, inputs=[], outputs=[])
    uri = f"file://{tmp_path}/p/slipway.json"
    assert run_command(tmp_path, "fetch", "--uri", uri, "--digest", digest).code == 0
    extra = given(({"x": X}, {"y": [[41, 52]]}))
    with Server.of_cached(tmp_path, digest, extra=extra) as server:
        ended = server.start().wait_for_end()
    assert (ended.code, ended.termination["reason"]) == (23, "GoldenMismatch")


@pytest.mark.parametrize(
    ("value", "reason", "told"),
    [
        ("{", "InvalidArguments", "cannot be read"),
        ("7", "InvalidArguments", "cannot be read"),
        (given(({"x": X}, {"y": Y}), rtol=-1)["SLIPWAY_GOLDEN"], "InvalidArguments", "rtol is -1"),
        (given(({"x": X}, {"y": Y}), atol="1")["SLIPWAY_GOLDEN"], "InvalidArguments", "atol is 1"),
        # What only another spec can mend is given up at once.
        ("{}", "GoldenMismatch", "'samples' is missing"),
        ('{"samples": []}', "GoldenMismatch", "from 1 to"),
        (given(({"z": X}, {"y": Y}))["SLIPWAY_GOLDEN"], "GoldenMismatch", "the tensors ['z']"),
        (given(({"x": [[1, 2]]}, {"y": Y}))["SLIPWAY_GOLDEN"], "GoldenMismatch", "do not fit"),
    ],
)
def test_a_setting_that_cannot_be_checked_is_refused(
    tmp_path: Path, value: str, reason: str, told: str
) -> None:
    with Server(tmp_path, onnx_models.linear(), extra={"SLIPWAY_GOLDEN": value}) as server:
        ended = server.start().wait_for_end()
    assert ended.termination["reason"] == reason
    assert ended.code == {"InvalidArguments": 2, "GoldenMismatch": 23}[reason]
    assert "spec.golden" in ended.termination["message"]
    assert told in ended.termination["message"]


def test_the_flag_without_samples_is_refused(tmp_path: Path) -> None:
    """It is there to be refused by a runtime that would not check them."""
    name = ("--digest", "sha256:" + 64 * "0", "--name", "m")
    ended = run_command(tmp_path, "serve", *name, "--golden")
    assert (ended.code, ended.termination["reason"]) == (2, "InvalidArguments")
    assert "SLIPWAY_GOLDEN" in ended.termination["message"]

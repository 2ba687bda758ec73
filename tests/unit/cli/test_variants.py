"""`slipway quantize` and `slipway optimize`: what is made, measured, kept and refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cli_kit import models
from cli_kit.run import slipway
from onnx import helper

from slipway.validation.cases import Plan as Values
from slipway.variants import data, measure, processor, verdict
from slipway.variants.measure import Accuracy, Agreement, Latency, SpeedUp
from slipway.variants.verdict import Bounds, Measured

Save = Callable[..., Path]

# Whatever the machine does meanwhile: these tests are not about speed.
ANY_SPEED = ("--min-speed-up", 0, "--rounds", 10)


def classifier(*, width: int = 64, classes: int = 10) -> bytes:
    """x [n, width] -> logits [n, classes], a product, a Relu and another product."""
    random = np.random.default_rng(0)
    return models.build(
        [
            helper.make_node("MatMul", ["x", "w"], ["hidden"], name="first"),
            helper.make_node("Relu", ["hidden"], ["active"]),
            helper.make_node("Gemm", ["active", "v", "b"], ["logits"], name="last"),
        ],
        [models.tensor("x", ["n", width])],
        [models.tensor("logits", ["n", classes])],
        [
            models.constant("w", random.normal(0, 0.2, (width, 256))),
            models.constant("v", random.normal(0, 0.2, (256, classes))),
            models.constant("b", random.normal(0, 0.2, classes)),
        ],
    )


def cnn() -> bytes:
    """image [n, 3, 8, 8] -> logits [n, 4], with one convolution of 32 channels."""
    random = np.random.default_rng(0)
    return models.build(
        [
            helper.make_node("Conv", ["image", "w"], ["maps"], pads=[1] * 4, name="conv"),
            helper.make_node("GlobalAveragePool", ["maps"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["flat"]),
            helper.make_node("Gemm", ["flat", "v"], ["logits"]),
        ],
        [models.tensor("image", ["n", 3, 8, 8])],
        [models.tensor("logits", ["n", 4])],
        [
            models.constant("w", random.normal(0, 0.2, (32, 3, 3, 3))),
            models.constant("v", random.normal(0, 0.2, (32, 4))),
        ],
    )


def scaler() -> bytes:
    """x [n, 2] -> y [n, 2] = (x - 1) / 2, of classical operators alone, as skl2onnx writes it."""
    domain = {"domain": "ai.onnx.ml"}
    node = helper.make_node("Scaler", ["x"], ["y"], offset=[1.0], scale=[0.5], **domain)
    sides = [models.tensor("x", ["n", 2])], [models.tensor("y", ["n", 2])]
    model = helper.make_model(
        helper.make_graph([node], "test", *sides),
        opset_imports=[
            helper.make_opsetid(d, v) for d, v in [("ai.onnx.ml", 3), ("", 20), ("", 20)]
        ],
    )
    model.ir_version = 10
    return model.SerializeToString()


def operators(path: str | Path) -> set[str]:
    return {node.op_type for node in onnx.load_model(str(path)).graph.node}


def metadata(path: str | Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load_model(str(path)).metadata_props}


@pytest.fixture
def wide(saved: Save) -> Path:
    model = onnx.load_model_from_string(classifier())
    model.metadata_props.append(onnx.StringStringEntryProto(key="licence", value="MIT"))
    return saved(model.SerializeToString())


# ---- what is made ----


def test_products_become_int8_and_the_file_says_what_it_is_a_variant_of(wide: Path) -> None:
    ended = slipway("quantize", wide, *ANY_SPEED, "--json")
    assert ended.code == 0, ended.err
    kept = ended.json["kept"]
    assert kept["method"] == "int8-dynamic"
    assert kept["digest"] == models.digest_of(Path(kept["file"]).read_bytes())
    assert "MatMulInteger" in operators(kept["file"])
    told = metadata(kept["file"])
    assert told["variant"] == "int8-dynamic"
    assert told["variant_of"] == models.digest_of(wide.read_bytes())
    assert told["licence"] == "MIT"
    (variant,) = ended.json["variants"]
    assert variant["size"] < 0.4 * ended.json["original"]["size"]
    assert variant["outputs"][0]["cosine"] > 0.999
    assert slipway("validate", kept["file"]).code in (0, 4)
    assert slipway("inspect", kept["file"]).code == 0


def test_products_that_share_a_transposed_weight_become_int8_each(saved: Save) -> None:
    """PyTorch writes them so where layers share weights, and says their shape beside them."""
    random = np.random.default_rng(0)
    model = onnx.load_model_from_string(
        models.build(
            [
                helper.make_node("Gemm", ["x", "w"], ["hidden"], transB=1),
                helper.make_node("Relu", ["hidden"], ["active"]),
                helper.make_node("Gemm", ["active", "w"], ["again"], transB=1),
                helper.make_node("Gemm", ["again", "v"], ["logits"], transB=1),
            ],
            [models.tensor("x", ["n", 64])],
            [models.tensor("logits", ["n", 10])],
            [
                models.constant("w", random.normal(0, 0.2, (64, 64))),
                models.constant("v", random.normal(0, 0.2, (10, 64))),
            ],
        )
    )
    model.graph.value_info.append(models.tensor("v", [10, 64]))
    ended = slipway("quantize", saved(model.SerializeToString()), *ANY_SPEED, "--json")
    assert ended.code == 0, ended.err + ended.out
    assert ended.json["variants"][0]["outputs"][0]["cosine"] > 0.999


def test_a_cnn_is_quantized_statically_by_channel_from_calibration_data(
    saved: Save, folder: Path
) -> None:
    random = np.random.default_rng(3)
    np.savez(folder / "typical.npz", image=random.random((20, 3, 8, 8), np.float32))
    ended = slipway(
        "quantize", saved(cnn()), "--calibration", "typical.npz", "--samples", "typical.npz",
        *ANY_SPEED, "--min-cosine", 0.99, "--out", "small.onnx", "--json",
    )  # fmt: skip
    assert ended.code == 0, ended.err + ended.out
    assert ended.json["calibratedOn"] == {"origin": "typical.npz", "random": False}
    assert ended.json["comparedOn"]["random"] is False
    graph = onnx.load_model("small.onnx").graph
    scales = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    weights = [n for n in graph.node if n.op_type == "DequantizeLinear" and "w_" in n.input[0]]
    assert [scales[node.input[1]] for node in weights] == [[32]]
    assert "QuantizeLinear" in operators("small.onnx")
    assert metadata("small.onnx")["calibration"] == "typical.npz"


def test_without_calibration_data_static_int8_is_refused(saved: Save) -> None:
    ended = slipway("quantize", saved(cnn()))
    assert ended.code == 2
    assert "--calibration FILE.npz" in ended.err


def test_random_calibration_is_marked_wherever_the_model_goes(saved: Save) -> None:
    ended = slipway(
        "quantize", saved(cnn()), "--random-calibration", *ANY_SPEED, "--min-cosine", 0.9,
        "--out", "small.onnx", "--html", "report.html", "--report", "report.json",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert "warning: calibrated on random inputs" in ended.err
    assert "calibrated on random inputs" in Path("report.html").read_text()
    assert json.loads(Path("report.json").read_text())["calibratedOn"]["random"] is True
    assert metadata("small.onnx")["calibration"] == "random"


def test_fp16_keeps_the_types_of_inputs_and_outputs(wide: Path) -> None:
    ended = slipway("quantize", wide, "--method", "fp16", *ANY_SPEED, "--out", "half.onnx")
    assert ended.code == 0, ended.err
    graph = onnx.load_model("half.onnx").graph
    assert {t.data_type for t in graph.initializer} == {onnx.TensorProto.FLOAT16}
    assert slipway("inspect", "half.onnx", "--json").json["inputs"][0]["datatype"] == "FP32"


def test_of_several_methods_one_that_holds_is_kept(wide: Path) -> None:
    ended = slipway(
        "quantize", wide, "--method", "int8-dynamic", "--method", "fp16", *ANY_SPEED, "--json"
    )
    assert ended.code == 0
    assert [v["method"] for v in ended.json["variants"]] == ["int8-dynamic", "fp16"]
    best = max(ended.json["variants"], key=lambda v: v["speedUp"]["median"])
    assert ended.json["kept"]["method"] == best["method"]


def test_a_node_that_is_excluded_stays_as_it_is(wide: Path) -> None:
    ended = slipway("quantize", wide, "--exclude", "last", *ANY_SPEED, "--out", "small.onnx")
    assert ended.code == 0, ended.err
    assert {"MatMul", "MatMulInteger"} <= operators("small.onnx")
    unknown = slipway("quantize", wide, "--exclude", "absent")
    assert unknown.code == 2
    assert "no node 'absent'" in unknown.err


def test_external_data_is_kept_external(folder: Path) -> None:
    path = models.with_external_data(folder, rows=64, columns=64)
    ended = slipway("quantize", path, *ANY_SPEED, "--out", "small.onnx", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["original"]["size"] > 64 * 64 * 4
    assert slipway("inspect", "small.onnx").code == 0


def test_the_graph_is_written_as_onnx_runtime_optimizes_it(saved: Save) -> None:
    content = models.build(
        [
            helper.make_node("Constant", [], ["two"], value_float=2.0),
            helper.make_node("Neg", ["two"], ["less"]),
            helper.make_node("Mul", ["x", "less"], ["y"]),
        ],
        [models.tensor("x", ["n", 4])],
        [models.tensor("y", ["n", 4])],
    )
    ended = slipway("optimize", saved(content), *ANY_SPEED, "--max-size", 9, "--out", "o.onnx")
    assert ended.code == 0, ended.err
    assert operators("o.onnx") == {"Mul"}


# ---- what is refused ----


def test_a_variant_that_misses_a_bound_is_not_written_and_says_why(
    wide: Path, folder: Path
) -> None:
    (folder / "small.onnx").write_bytes(b"older")
    ended = slipway(
        "quantize", wide, "--min-speed-up", 1000, "--rounds", 10, "--out", "small.onnx",
        "--html", "report.html",
    )  # fmt: skip
    assert ended.code == 12
    assert "int8-dynamic is not kept: it is" in ended.err
    assert "REFUSED" in ended.out
    assert "No variant holds the bounds" in Path("report.html").read_text()
    assert (folder / "small.onnx").read_bytes() == b"older"
    assert not list(folder.glob(".slipway-*"))


@pytest.mark.parametrize("model", [models.logarithm(), scaler()], ids=["ONNX", "ai.onnx.ml alone"])
def test_a_model_without_products_is_told_so(saved: Save, model: bytes) -> None:
    ended = slipway("quantize", saved(model), "--range", "1:2")
    assert ended.code == 2
    assert "MatMul and Gemm, and this model has none" in ended.err


def measured(**changed: Any) -> Measured:
    told: dict[str, Any] = {
        "size": 25,
        "original_size": 100,
        "speed_up": SpeedUp(1.8, 1.5, 2.0),
        "agreements": [Agreement("y", 0.1, 0.9995, 0.99, 0.995)],
    }
    return Measured(**(told | changed))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, None),
        ({"size": 100}, "size is 100% of the original's"),
        ({"size": 120}, "size is 120% of the original's"),
        ({"speed_up": SpeedUp(1.1, 0.99, 1.2)}, "1.10 times as fast .* more --rounds tell more"),
        ({"speed_up": SpeedUp(0.7, 0.6, 0.8)}, "0.70 times as fast .* the lower end$"),
        ({"agreements": [Agreement("y", 1, 0.99, 0.9, 0.995)]}, None),
        ({"agreements": [Agreement("y", 1, 0.9995, 0.9, 0.5)]}, None),
        ({"agreements": [Agreement("y", 1, 0.99, 0.9, 0.98)]}, "'y' computes something else"),
        ({"agreements": [Agreement("y", 1, 0.99, 0.9, None)]}, r"cosine 0\.99000 \(below 0\.999\)"),
        ({"agreements": [Agreement("y", 1, None, None, 0.98)]}, "top-1 agreement 98.00%"),
        # One class in nearly all rows, or a column that a larger one hides, is no agreement.
        ({"agreements": [Agreement("y", 1, 0.99, 0.9, 1.0, commonest=0.994)]}, "tells nothing"),
        ({"agreements": [Agreement("y", 1, 0.9999, 0.9, 1.0, commonest=1.0)]}, None),
        (
            {"agreements": [Agreement("y", 1, 1.0, 1.0, 1.0, 0, commonest=1.0, lowest_column=0.2)]},
            r"correlation 0\.20000 of the worst column \(below 0\.9\)",
        ),
        (
            {"agreements": [Agreement("y", 1, 0.9, 0.9, 1.0, 0, commonest=0.5, lowest_column=0.2)]},
            None,
        ),
        ({"accuracy": Accuracy(0.91, 0.9), "original_accuracy": Accuracy(0.915, 0.94)}, None),
        (
            {"accuracy": Accuracy(0.90, 0.9), "original_accuracy": Accuracy(0.92, 0.9)},
            "accuracy falls from 92.00% to 90.00%",
        ),
        (
            {"accuracy": Accuracy(0.994, 0.54), "original_accuracy": Accuracy(1.0, 1.0)},
            "mean over classes, rare ones too, falls from 100.00% to 54.00%",
        ),
    ],
)
def test_each_bound_is_held_or_named(changed: dict[str, Any], told: str | None) -> None:
    found = verdict.failures(measured(**changed), Bounds())
    assert len(found) == (told is not None)
    assert told is None or re.search(told, found[0])


def test_slower_means_beyond_doubt() -> None:
    assert verdict.slower(measured(speed_up=SpeedUp(0.8, 0.7, 0.9)))
    assert not verdict.slower(measured(speed_up=SpeedUp(0.98, 0.9, 1.1)))


# ---- how it is measured ----


def test_rounds_run_all_and_every_other_one_backwards() -> None:
    ran: list[str] = []
    runs = [lambda name=name: (ran.append(name), measure.time.sleep(0.0025)) for name in "ab"]
    found = measure.latencies(runs, 10)
    assert "".join(ran).endswith("abba" * 5)
    assert [len(latency.rounds) for latency in found] == [10, 10]
    assert all(2 < latency.median < 200 for latency in found)


def test_the_interval_of_the_speed_up_holds_the_median_and_ignores_outliers() -> None:
    slow = Latency(tuple(2.0 + 0.01 * n for n in range(40)))
    fast = Latency((*(1.0 + 0.005 * n for n in range(38)), 90.0, 90.0))
    found = measure.speed_up(slow, fast)
    assert found.lower <= found.median <= found.upper
    assert found.median == pytest.approx(2, rel=0.05)
    assert found.lower > 1.9


def test_accuracy_is_compared_on_labelled_data(wide: Path, folder: Path) -> None:
    x = np.random.default_rng(5).normal(0, 1, (40, 64)).astype(np.float32)
    np.savez(folder / "x.npz", x=x)
    right = np.argmax(onnx_outputs(wide, x), axis=1)
    wrong = np.where(np.arange(40) < 10, (right + 1) % 10, right)
    np.savez(folder / "labelled.npz", x=x, labels=wrong)
    ended = slipway(
        "quantize", wide, "--labelled", "labelled.npz", "--max-accuracy-loss", 0.1, *ANY_SPEED,
        "--json",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert ended.json["original"]["accuracy"] == 0.75
    assert ended.json["variants"][0]["accuracy"] == pytest.approx(0.75, abs=0.1)
    unlabelled = slipway("quantize", wide, "--labelled", "x.npz")
    assert unlabelled.code == 2
    assert "no array 'labels'" in unlabelled.err


def onnx_outputs(model: Path, x: np.ndarray) -> np.ndarray:
    from slipway.model.ort import Session  # noqa: PLC0415 - sets the environment first

    return Session(model).run_tensors({"x": x})["logits"]


def test_rows_of_given_data_must_be_as_many_in_each_array(wide: Path, folder: Path) -> None:
    np.savez(folder / "x.npz", x=np.zeros((5, 64), np.float32), labels=np.zeros(4, np.int64))
    ended = slipway("quantize", wide, "--labelled", "x.npz")
    assert ended.code == 2
    assert "x 5, labels 4" in ended.err


@pytest.mark.parametrize(("shape", "sizes"), [(["n", 4], [3, 3, 1]), ([2, 4], [2, 2, 2])])
def test_given_rows_are_cut_into_batches_that_the_model_takes(
    folder: Path, shape: list[int | str], sizes: list[int]
) -> None:
    np.savez(folder / "x.npz", x=np.zeros((7, 4), np.float32))
    tensor = data.Tensor("x", "FP32", tuple(shape))
    found = data.given(folder / "x.npz", [tensor], 3)
    assert [len(batch["x"]) for batch in found.batches] == sizes


def test_random_data_is_said_to_be_random() -> None:
    tensor = data.Tensor("x", "FP32", ("n", 4))
    assert data.made([tensor], Values(), 2).random


def test_a_column_that_a_larger_one_hides_is_compared_by_itself() -> None:
    random = np.random.default_rng(0)
    price, rate = random.normal(5e5, 1e3, 200), random.normal(0, 0.3, 200)
    one, other = (np.stack([price, column], axis=1) for column in (rate, random.permutation(rate)))
    found = agreement(one, other)
    assert found.cosine == pytest.approx(1)
    assert (found.top1, found.commonest) == (1, 1)
    assert found.lowest_column is not None
    assert found.lowest_column < 0.3
    assert agreement(one, one).lowest_column == 1


def test_accuracy_counts_rare_classes_as_much_as_others() -> None:
    labels = np.array([0] * 98 + [1] * 2)
    never = np.tile(np.array([[1.0, 0.0]]), (100, 1))
    found = measure.accuracy(lambda _: {"y": never}, [{}], labels)
    assert (found.rows, found.classes) == (0.98, 0.5)


def test_labels_that_do_not_belong_to_the_answers_are_pointed_out(wide: Path, folder: Path) -> None:
    x = np.random.default_rng(5).normal(0, 1, (60, 64)).astype(np.float32)
    off_by_one = np.argmax(onnx_outputs(wide, x), axis=1) + 1
    np.savez(folder / "off.npz", x=x, labels=off_by_one)
    ended = slipway("quantize", wide, "--labelled", "off.npz", *ANY_SPEED)
    assert "the labels hardly belong to what the model answers" in ended.err


@pytest.mark.parametrize("command", ["quantize", "optimize"])
def test_the_model_itself_is_never_replaced(wide: Path, command: str) -> None:
    before = wide.read_bytes()
    ended = slipway(command, wide, "--out", wide.parent / "." / wide.name)
    assert ended.code == 2
    assert "is the model itself" in ended.err
    assert wide.read_bytes() == before


def test_a_direction_is_compared_row_by_row() -> None:
    one = np.array([[1.0, 0], [0, 1], [0, 0]], np.float32)
    other = np.array([[2.0, 0], [1, 0], [0, 0]], np.float32)
    (found,) = measure.agreements(lambda _: {"y": one}, lambda _: {"y": other}, [{}])
    assert found.cosine == pytest.approx(2 / 3)
    assert found.lowest_cosine == 0
    assert found.top1 == pytest.approx(2 / 3)
    assert found.max_absolute == 1


@pytest.mark.parametrize("shape", [(200,), (200, 1)], ids=["[n]", "[n, 1]"])
def test_rows_of_one_number_are_compared_by_how_they_move_together(shape: tuple[int, ...]) -> None:
    """Their signs alone would be the same, and so the cosine of each row 1."""
    random = np.random.default_rng(0)
    one = (0.6 + 0.05 * random.standard_normal(shape)).astype(np.float32)
    near = one + 0.0005 * random.standard_normal(shape).astype(np.float32)
    for other, least, most in ((near, 0.999, 1), (np.full_like(one, 0.5), -0.01, 0.01)):
        found = agreement(one, other)
        assert found.cosine is not None
        assert least <= found.cosine <= most
    constant = np.full(shape, 3.0, np.float32)
    assert agreement(constant, constant + np.float32(1e-6)).cosine == 1
    assert agreement(constant, one).cosine == 0


def test_values_that_are_lost_miss_every_bound() -> None:
    """The largest of nothing but NaN is the first, which may be the original's class."""
    one = np.array([[2.0, 1.0], [3.0, np.inf]], np.float32)
    found = agreement(one, np.full_like(one, np.nan))
    assert (found.lost, found.top1) == (3, 0.5)
    assert verdict._apart(found, Bounds(min_top1=0.5)) == (
        "'y' has 3 values that are not finite, the original's are"
    )


def agreement(one: Any, other: Any) -> Agreement:
    (found,) = measure.agreements(lambda _: {"y": one}, lambda _: {"y": other}, [{}])
    return found


# ---- the report ----


def test_the_page_needs_nothing_else_and_escapes_names(saved: Save, folder: Path) -> None:
    model = saved(classifier(), "<model>.onnx")
    assert slipway("quantize", model, *ANY_SPEED, "--html", "r.html").code == 0
    page = (folder / "r.html").read_text()
    assert page.count("<svg") == 3
    assert not re.search(r"(src|href)=|https?://|<script", page)
    assert "&lt;model&gt;" in page
    assert "<model>" not in page


def test_what_the_processor_can_is_read_from_its_flags() -> None:
    text = "processor: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx512_vnni\n\nprocessor: 1\n"
    assert str(processor.parse(text)) == "Some CPU (avx512_vnni)"
    assert "no INT8 dot products" in str(processor.parse("model name: Old\nflags: fpu\n"))

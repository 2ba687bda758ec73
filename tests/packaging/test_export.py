"""`slipway export` with the real frameworks, in an environment of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import numpy as np
import onnx
import pytest
from cli_kit.run import Ended, slipway
from source_kit import with_frameworks
from source_kit.frameworks import ROOT
from source_kit.with_frameworks import python

pytestmark = pytest.mark.timeout(1500)

EXAMPLES = ROOT / "examples"
FEATURES = ("--input", "features=FP32[batch,4]", "--output", "probabilities")


def export(*arguments: object, cwd: Path) -> Ended:
    return with_frameworks.slipway("export", *arguments, cwd=cwd)


@pytest.fixture
def module(folder: Path):
    """Write m.py with a class M whose forward() has this body."""

    def write(body: str, parameters: str = "x") -> None:
        text = f"import torch\n\nclass M(torch.nn.Module):\n    def forward(self, {parameters}):\n"
        (folder / "m.py").write_text(text + dedent(body).strip().replace("\n", "\n        ").join(
            ["        ", "\n"]
        ))  # fmt: skip

    return write


def test_a_pytorch_module_keeps_its_batch_dimension_and_computes_the_same(folder: Path) -> None:
    out = folder / "model.onnx"
    ended = export(
        "fraud:model", *FEATURES, "--out", out, "--meta", "licence=Apache-2.0", "--json",
        "--columns", "features=age,income,term,amount", "--labels", "probabilities=honest,fraud",
        cwd=EXAMPLES / "pytorch",
    )  # fmt: skip
    assert ended.code == 0, ended.err + ended.out
    told = ended.json
    assert told["exporter"] == "dynamo"
    assert told["validation"]["close"] is True
    assert {"batch 5, seed 1", "all 100"} <= {
        item["case"] for item in told["validation"]["differences"]
    }
    facts = slipway("inspect", out, "--json").json
    assert facts["inputs"] == [{"name": "features", "datatype": "FP32", "shape": ["batch", 4]}]
    assert facts["outputs"] == [
        {"name": "probabilities", "datatype": "FP32", "shape": ["batch", 2]}
    ]
    assert facts["batchable"] is True
    metadata = facts["metadata"]
    assert {"source", "torch", "slipway", "source_commit", "licence"} <= set(metadata)
    assert json.loads(metadata["columns"]) == {"features": ["age", "income", "term", "amount"]}
    assert json.loads(metadata["labels"]) == {"probabilities": ["honest", "fraud"]}


def test_a_given_opset_is_used_and_given_samples_are_compared_on(folder: Path) -> None:
    out, samples = folder / "model.onnx", folder / "samples.npz"
    np.savez(samples, features=np.linspace(-3, 3, 28, dtype=np.float32).reshape(7, 4))
    ended = export(
        "fraud:model", *FEATURES, "--out", out, "--opset", 18, "--samples", samples, "--json",
        cwd=EXAMPLES / "pytorch",
    )  # fmt: skip
    assert ended.code == 0, ended.err + ended.out
    assert {item.domain: item.version for item in onnx.load(out).opset_import}[""] == 18
    assert str(samples) in {item["case"] for item in ended.json["validation"]["differences"]}


def test_samples_that_do_not_fit_the_model_are_refused(folder: Path) -> None:
    samples = folder / "samples.npz"
    np.savez(samples, others=np.ones((1, 4), np.float32))
    ended = export(
        "fraud:model", *FEATURES, "--out", folder / "model.onnx", "--samples", samples,
        cwd=EXAMPLES / "pytorch",
    )  # fmt: skip
    assert ended.code == 2, ended.err
    assert "lacks the input 'features'" in ended.err
    assert not (folder / "model.onnx").exists()


def test_columns_that_do_not_fit_the_model_are_refused_before_it_is_exported(folder: Path) -> None:
    (folder / "traced.py").write_text(
        "import pathlib, torch\n"
        "class Traced(torch.nn.Module):\n"
        "    def forward(self, features):\n"
        "        if torch.jit.is_tracing():\n"
        "            pathlib.Path('exported').touch()\n"
        "        return features\n"
    )
    ended = export(
        "traced:Traced", *FEATURES, "--exporter", "classic", "--columns", "features=a,b", cwd=folder
    )
    assert ended.code == 2
    assert "2 columns are given for 'features', whose last dimension is 4" in ended.err
    assert not (folder / "exported").exists()


def test_weights_come_from_a_state_dict_read_as_weights_only(folder: Path) -> None:
    (folder / "fraud.py").write_text((EXAMPLES / "pytorch" / "fraud.py").read_text())
    python(
        "-c",
        "import torch, fraud; torch.save(fraud.Fraud().state_dict(), 'w.pt');"
        "torch.save(fraud.Fraud(), 'whole.pt')",
        cwd=folder,
    )
    ended = export("fraud:Fraud", "--state-dict", "w.pt", *FEATURES, cwd=folder)
    assert ended.code == 0, ended.err
    refused = export("fraud:Fraud", "--state-dict", "whole.pt", *FEATURES, cwd=folder)
    assert refused.code == 2
    assert "weights only" in refused.err
    whole = export("whole.pt", *FEATURES, cwd=folder)
    assert whole.code == 11
    assert "--trust-pickle" in whole.err


def test_torchscript_goes_to_the_classic_exporter(folder: Path) -> None:
    python(EXAMPLES / "pytorch" / "torchscript.py", folder / "f.pt", cwd=EXAMPLES / "pytorch")
    ended = export("f.pt", *FEATURES, "--json", cwd=folder)
    assert ended.code == 0, ended.err + ended.out
    assert ended.json["exporter"] == "classic"
    assert ended.json["validation"]["close"] is True


def test_a_branch_on_a_tensor_is_named_and_never_frozen_in_silence(folder: Path, module) -> None:
    module("""
        if x.sum() > 0:
            return x
        return -x
    """)
    ended = export("m:M", "--input", "x=FP32[batch,4]", cwd=folder)
    assert ended.code == 10
    assert "dynamo: the computation branches on a tensor's value" in ended.err
    assert "classic: tracing has frozen" in ended.err
    assert "torch.where" in ended.err
    assert not (folder / "model.onnx").exists()


def test_a_frozen_branch_that_was_wanted_is_found_by_the_comparison(folder: Path, module) -> None:
    module("""
        if x.sum() > 0:
            return x
        return -x
    """)
    ended = export("m:M", "--input", "x=FP32[batch,4]", "--exporter", "classic", cwd=folder)
    assert ended.code == 4
    assert "DIFFERS" in ended.out
    assert not (folder / "model.onnx").exists()
    assert not list(folder.glob(".slipway-*"))


@pytest.mark.parametrize(
    ("body", "given", "remedy"),
    [
        ("h = x[:, 0]\nfor at in range(1, x.size(1)): h = h.tanh() + x[:, at]\nreturn h",
         "x=FP32[batch,sequence,4]", "it is right for sequence 7 alone"),
        ("return torch.fft.rfft(x).abs()", "x=FP32[batch,64]", "--atol "),
        ("return torch.topk(x, 3).indices", "x=FP32[batch,9]", "--range x=-3:3"),
    ],
    ids=["an unrolled loop", "small differences", "equal values"],
)  # fmt: skip
def test_a_file_that_differs_is_told_with_what_may_mend_it(
    folder: Path, module, body: str, given: str, remedy: str
) -> None:
    module(body)
    ended = export("m:M", "--input", given, cwd=folder)
    assert ended.code == 4, ended.err
    assert f"  try: {remedy}" in ended.err
    assert len(ended.err.splitlines()) == 2, "no graph of PyTorch's own"
    if remedy.startswith("--"):
        told = ended.err.split("  try: ")[1].split(",")[0]
        assert export("m:M", "--input", given, *told.split(), cwd=folder).code == 0


def test_outputs_of_a_named_tuple_have_its_names(folder: Path) -> None:
    (folder / "m.py").write_text(
        "import torch\nfrom typing import NamedTuple\n"
        "class Scores(NamedTuple):\n    logits: torch.Tensor\n    best: torch.Tensor\n"
        "class M(torch.nn.Module):\n"
        "    def forward(self, x):\n        return Scores(x * 2, x.max(-1).values)\n"
    )
    ended = export("m:M", "--input", "x=FP32[batch,4]", cwd=folder)
    assert ended.code == 0, ended.err
    outputs = slipway("inspect", "model.onnx", "--json").json["outputs"]
    assert [output["name"] for output in outputs] == ["logits", "best"]


def test_a_module_that_fails_on_its_inputs_is_told_from_an_exporter_that_fails(
    folder: Path, module
) -> None:
    module("return x @ torch.ones(3, 3)")
    ended = export("m:M", "--input", "x=FP32[batch,4]", cwd=folder)
    assert ended.code == 2
    assert "the module itself fails on x [3, 4]" in ended.err


def test_two_inputs_with_a_sequence_stay_dynamic(folder: Path, module) -> None:
    module("return (ids.float() * mask).sum(-1), ids.float().mean(-1)", "ids, mask")
    ended = export(
        "m:M", "--input", "ids=INT64[batch,sequence]", "--input", "mask=FP32[batch,sequence]",
        "--dim", "sequence=4,9", "--range", "ids=0:1000", cwd=folder,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    shapes = [i["shape"] for i in slipway("inspect", "model.onnx", "--json").json["inputs"]]
    assert shapes == [["batch", "sequence"]] * 2


def test_a_scikit_learn_pipeline_is_converted_and_compared(folder: Path) -> None:
    out = folder / "iris.onnx"
    ended = export("iris:pipeline", "--out", out, "--json", cwd=EXAMPLES / "scikit-learn")
    assert ended.code == 0, ended.err + ended.out
    assert {item["output"] for item in ended.json["validation"]["worst"]} == {
        "label", "probabilities",
    }  # fmt: skip
    facts = slipway("inspect", out, "--json").json
    assert facts["batchable"] is True
    assert facts["servable"] is True
    labels = json.loads(facts["metadata"]["labels"])
    assert labels == {"probabilities": ["0", "1", "2"]}


BOOSTED = """
from sklearn.datasets import load_iris
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

x, y = load_iris(return_X_y=True)
"""
ESTIMATORS = {
    "scikit-learn": "HistGradientBoostingRegressor(max_iter=10)",
    "LightGBM": "make_pipeline(StandardScaler(), lightgbm.LGBMClassifier(n_estimators=10))",
    "XGBoost": "xgboost.XGBClassifier(n_estimators=10)",
}


@pytest.mark.parametrize("library", ESTIMATORS)
def test_gradient_boosting_is_converted_and_compared(folder: Path, library: str) -> None:
    loaded = "" if library == "scikit-learn" else f"import {library.lower()}\n"
    text = f"{loaded}{BOOSTED}model = {ESTIMATORS[library]}.fit(x, y)\n"
    (folder / "boosted.py").write_text(text)
    ended = export("boosted:model", "--range", "0:8", "--json", cwd=folder)
    assert ended.code == 0, ended.err + ended.out
    assert ended.json["validation"]["close"] is True
    assert ended.json["warnings"] == []
    assert slipway("inspect", "model.onnx", "--json").json["batchable"] is True


@pytest.mark.parametrize(
    ("estimator", "differs"),
    [
        ("make_pipeline(SimpleImputer(), RandomForestRegressor(5))", False),
        ("RandomForestRegressor(5)", True),
    ],
    ids=["filled in", "left to the trees"],
)
def test_an_estimator_that_makes_something_else_of_missing_values_is_told(
    folder: Path, estimator: str, *, differs: bool
) -> None:
    text = "import numpy as np\nfrom sklearn.ensemble import RandomForestRegressor\n"
    text += "from sklearn.impute import SimpleImputer\n"
    text += "from sklearn.pipeline import make_pipeline\n"
    text += "x = np.random.default_rng(0).normal(size=(99, 3)).astype(np.float32)\n"
    text += "y = x[:, 0] * 2 + x[:, 1]\nx[::7, 0] = np.nan\n"
    (folder / "fitted.py").write_text(f"{text}model = {estimator}.fit(x, y)\n")
    ended = export("fitted:model", "--json", cwd=folder)
    assert ended.code == 0, ended.err + ended.out
    told = [text for text in ended.json["warnings"] if "missing values" in text]
    assert len(told) == (1 if differs else 0)
    assert ("SimpleImputer" in ended.err) is differs
    metadata = slipway("inspect", "model.onnx", "--json").json["metadata"]
    assert metadata.get("missing") == (None if differs else "nan")


@pytest.mark.parametrize(
    ("flags", "differs"),
    [((), True), (("--input", "features=FP64[batch,1]"), False)],
    ids=["FP32", "FP64"],
)
def test_an_estimator_that_makes_something_else_of_rounded_samples_is_told(
    folder: Path, flags: tuple[str, ...], *, differs: bool
) -> None:
    text = "import numpy as np\nfrom sklearn.linear_model import LinearRegression\n"
    text += "x = np.arange(2**24, 2**24 + 99.0)[:, None]\n"
    (folder / "fitted.py").write_text(f"{text}model = LinearRegression().fit(x, x[:, 0] - 2**24)\n")
    np.savez(folder / "s.npz", features=np.arange(2**24 + 1, 2**24 + 50)[:, None])
    given = ("--samples", "s.npz", "--rtol", "0.01", *flags)
    ended = export("fitted:model", "--json", *given, cwd=folder)
    assert ended.code == 0, ended.err + ended.out
    told = [text for text in ended.json["warnings"] if "rounded" in text]
    assert len(told) == (1 if differs else 0)


FITTED = """
import numpy as np
from sklearn.cluster import KMeans
from sklearn.linear_model import RidgeClassifier, SGDClassifier
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

x = np.random.default_rng(0).normal(size=(99, 3)).astype(np.float32)
"""
BRANCH_ON_A_SIZE = """
    if x.shape[1] > 64:
        x = x[:, -64:]
    return self.layer(x.mean(1))
"""
LEARNED_POSITIONS = "return self.layer((x + self.positions[: x.shape[1]]).mean(1))"


@pytest.mark.parametrize(
    ("body", "code"),
    [(BRANCH_ON_A_SIZE, 10), (LEARNED_POSITIONS, 0)],
    ids=["a branch on a size", "positions up to a length"],
)
def test_sizes_that_an_exporter_supposed_are_tried_beyond(
    folder: Path, body: str, code: int
) -> None:
    text = "import torch\n\nclass M(torch.nn.Module):\n    def __init__(self):\n"
    text += "        super().__init__()\n        self.layer = torch.nn.Linear(4, 2)\n"
    text += "        self.positions = torch.nn.Parameter(torch.randn(64, 4))\n"
    text += "    def forward(self, x):\n        " + dedent(body).strip().replace("\n", "\n        ")
    (folder / "m.py").write_text(text + "\n")
    ended = export("m:M", "--input", "x=FP32[batch,seq,4]", cwd=folder)
    assert ended.code == code, ended.err + ended.out
    if code:
        assert "the file is right for 'seq' up to 64 only" in ended.err
        assert not (folder / "model.onnx").exists()


def test_categories_are_compared_on_samples_alone(folder: Path) -> None:
    text = "import numpy as np\nfrom sklearn.linear_model import LinearRegression\n"
    text += "from sklearn.pipeline import make_pipeline\n"
    text += "from sklearn.preprocessing import OneHotEncoder\n"
    text += "x = np.arange(60.0).reshape(-1, 1) % 5\n"
    (folder / "m.py").write_text(
        f"{text}model = make_pipeline(OneHotEncoder(), LinearRegression()).fit(x, x[:, 0] ** 2)\n"
    )
    np.savez(folder / "s.npz", features=np.arange(5, dtype=np.float32)[:, None])
    refused = export("m:model", "--samples", "s.npz", cwd=folder)
    assert "--no-random with --samples" in refused.err
    ended = export("m:model", "--samples", "s.npz", "--no-random", "--json", cwd=folder)
    assert ended.code == 0, ended.err + ended.out
    assert {item["case"] for item in ended.json["validation"]["differences"]} == {"s.npz"}


def test_a_pickle_is_read_only_when_that_is_wanted(folder: Path) -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import iris, pickle;"
    code += "pickle.dump(iris.pipeline, open('p.pkl', 'wb'))"
    python("-c", code, EXAMPLES / "scikit-learn", cwd=folder)
    refused = export("p.pkl", cwd=folder)
    assert refused.code == 11
    assert "runs whatever code" in refused.err
    assert export("p.pkl", "--trust-pickle", cwd=folder).code == 0


def test_a_pickle_may_be_joblibs_and_one_that_cannot_be_read_is_told(folder: Path) -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import iris, joblib;"
    code += "joblib.dump(iris.pipeline, 'j.pkl')"
    python("-c", code, EXAMPLES / "scikit-learn", cwd=folder)
    assert export("j.pkl", "--trust-pickle", cwd=folder).code == 0
    (folder / "broken.pkl").write_bytes(b"no pickle")
    ended = export("broken.pkl", "--trust-pickle", cwd=folder)
    assert ended.code == 2
    assert "broken.pkl is no pickle that can be read here" in ended.err


@pytest.mark.parametrize("estimator", ["KMeans(3, n_init=1)", "GaussianMixture(2)"])
def test_an_estimator_without_probabilities_is_compared_by_what_it_predicts(
    folder: Path, estimator: str
) -> None:
    (folder / "fitted.py").write_text(f"{FITTED}model = {estimator}.fit(x)\n")
    ended = export("fitted:model", "--json", cwd=folder)
    assert ended.code == 0, ended.err + ended.out
    assert {item["output"] for item in ended.json["validation"]["differences"]} == {"label"}


@pytest.mark.parametrize(
    ("estimator", "named"),
    [
        ("LinearSVC()", "LinearSVC"),
        ("make_pipeline(StandardScaler(), LinearSVC())", "LinearSVC"),
        ("GridSearchCV(make_pipeline(SVC()), {'svc__C': [1, 2]})", "SVC"),
        ("SGDClassifier()", "SGDClassifier"),
        ("RidgeClassifier()", "RidgeClassifier"),
    ],
)
@pytest.mark.parametrize("classes", [2, 3])
def test_a_classifier_without_probabilities_answers_the_label_alone(
    folder: Path, estimator: str, named: str, classes: int
) -> None:
    fit = f"model = {estimator}.fit(x, np.digitize(x[:, 0], [0, 1][: {classes} - 1]))\n"
    (folder / "fitted.py").write_text(FITTED + fit)
    ended = export("fitted:model", "--json", cwd=folder)
    assert ended.code == 0, ended.err + ended.out
    (warning,) = ended.json["warnings"]
    assert warning.startswith(f"{named} has no probabilities")
    assert {item["output"] for item in ended.json["validation"]["differences"]} == {"label"}
    outputs = slipway("inspect", "model.onnx", "--json").json["outputs"]
    assert [item["name"] for item in outputs] == ["label"]


def test_a_plain_file_is_served_as_it_is(folder: Path) -> None:
    subprocess.run(
        [sys.executable, EXAMPLES / "plain-onnx" / "make.py", folder / "model.onnx"], check=True
    )
    assert slipway("validate", "model.onnx").code == 0
    assert onnx.load_model(str(folder / "model.onnx")).graph.name == "line"

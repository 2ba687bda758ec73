"""`slipway export` from MLflow models, as examples/mlflow logs them."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata as distributions
from pathlib import Path

import onnx
import pytest
from cli_kit.run import Ended, process, slipway

sys.path.insert(0, str(Path(__file__).parent))
from torch_environment import ROOT, program

pytestmark = pytest.mark.timeout(1500)

RANGES = ("--range", "age=18:80", "--range", "income=10000:90000", "--range", "term=1:72",
          "--range", "amount=1000:50000")  # fmt: skip
PINNED = ("mlflow-skinny", "pandas", "scikit-learn", "numpy", "joblib")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models that were logged with the versions of the test's environment as requirements."""
    code = "import importlib.metadata as m, sys\n"
    code += "print(*[f'{n}=={m.version(n)}' for n in sys.argv[1:]])"
    told = subprocess.run(
        [program("python"), "-c", code, *PINNED], capture_output=True, text=True, check=True
    )
    folder = tmp_path_factory.mktemp("mlflow") / "models"
    subprocess.run(
        [program("python"), ROOT / "examples/mlflow/log_models.py", folder, *told.stdout.split()],
        check=True, capture_output=True, timeout=600,
    )  # fmt: skip
    return folder


def export(*arguments: object, cwd: Path) -> Ended:
    return process("export", *arguments, program=program("slipway"), cwd=cwd, timeout=600)


def test_the_onnx_flavour_is_taken_as_it_is_and_nothing_is_unpickled(
    models: Path, folder: Path
) -> None:
    ended = slipway("export", models / "onnx", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["exporter"] == "copy"
    assert onnx.load_model("model.onnx").graph.input[0].name == "scaled"


@pytest.mark.parametrize("flavor", ["sklearn", "pytorch", "custom"])
def test_what_runs_code_is_loaded_only_with_trust(flavor: str, models: Path, folder: Path) -> None:
    ended = slipway("export", models / flavor)
    assert ended.code == 11
    assert "--trust-pickle" in ended.err


@pytest.mark.parametrize(("flavor", "exporter"), [("pytorch", "dynamo"), ("sklearn", "skl2onnx")])
def test_a_flavour_is_exported_with_the_packages_that_are_here(
    flavor: str, exporter: str, models: Path, folder: Path
) -> None:
    ended = export(models / flavor, "--trust-pickle", "--env", "current", "--json", cwd=folder)
    assert ended.code == 0, ended.err + ended.out
    assert ended.json["exporter"] == exporter
    assert ended.json["validation"]["close"] is True


def test_a_custom_model_becomes_one_graph_of_its_raw_columns_in_an_environment_of_its_own(
    models: Path, folder: Path
) -> None:
    # This environment has neither MLflow nor scikit-learn: the model's requirements bring them.
    with pytest.raises(distributions.PackageNotFoundError):
        distributions.version("scikit-learn")
    ended = process(
        "export", models / "custom", "--trust-pickle", *RANGES, "--json",
        cwd=folder, timeout=600,
    )  # fmt: skip
    assert ended.code == 0, ended.err + ended.out
    told = ended.json
    assert told["exporter"] == "columns then scaler then graph"
    assert told["validation"]["comparedWith"] == "pyfunc"
    facts = slipway("inspect", "model.onnx", "--json").json
    assert [(i["name"], i["datatype"], i["shape"]) for i in facts["inputs"]] == [
        (name, "FP64", ["batch", 1]) for name in ("age", "income", "term", "amount")
    ]
    assert [o["name"] for o in facts["outputs"]] == ["probabilities"]
    assert facts["batchable"] is True


def test_a_custom_model_that_does_more_than_its_artifacts_is_refused(
    models: Path, folder: Path
) -> None:
    changed = folder / "changed"
    code = (
        "import sys, shutil, mlflow.pyfunc, joblib; sys.path.insert(0, sys.argv[1]);"
        "import log_models as l\n"
        "class More(l.FraudModel):\n"
        "    def predict(self, context, model_input, params=None):\n"
        "        return super().predict(context, model_input) * 2\n"
        "p = sys.argv[2] + '/parts/'\n"
        "mlflow.pyfunc.save_model(sys.argv[3], python_model=More(), pip_requirements=['numpy'],"
        " signature=l.infer_signature(l.frame), artifacts={'model': p + 'model.onnx',"
        " 'scaler': p + 'scaler.joblib', 'features': p + 'features.json'},"
        " code_paths=[sys.argv[1] + '/log_models.py'])"
    )
    subprocess.run(
        [program("python"), "-c", code, ROOT / "examples/mlflow", models, changed],
        check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    ended = export(changed, "--trust-pickle", "--env", "current", *RANGES, cwd=folder)
    assert ended.code == 4, ended.err + ended.out
    assert "DIFFERS" in ended.out
    assert "must move into the graph" in ended.err
    assert not (folder / "model.onnx").exists()

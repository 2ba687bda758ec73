"""`slipway export` from MLflow models, as examples/mlflow logs them."""

from __future__ import annotations

from importlib import metadata as distributions
from pathlib import Path

import onnx
import pytest
from cli_kit.run import Ended, process, slipway
from source_kit import with_frameworks
from source_kit.frameworks import ROOT

pytestmark = pytest.mark.timeout(1500)

RANGES = ("--range", "age=18:80", "--range", "income=10000:90000", "--range", "term=1:72",
          "--range", "amount=1000:50000")  # fmt: skip
PINNED = ("mlflow-skinny", "pandas", "scikit-learn", "numpy", "joblib")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models that were logged with the versions of the test's environment as requirements."""
    code = "import importlib.metadata as m, sys\n"
    code += "print(*[f'{n}=={m.version(n)}' for n in sys.argv[1:]])"
    folder = tmp_path_factory.mktemp("mlflow")
    told = with_frameworks.python("-c", code, *PINNED, cwd=folder).split()
    script = ROOT / "examples/mlflow/log_models.py"
    with_frameworks.python(script, folder / "models", *told, cwd=folder)
    return folder / "models"


LOG = """
import sys, mlflow
with mlflow.start_run() as run:
    mlflow.log_artifacts(sys.argv[1], "model")
mlflow.register_model(f"runs:/{run.info.run_id}/model", "fraud")
print(run.info.run_id)
"""


@pytest.fixture(scope="module")
def store(models: Path) -> dict[str, str]:
    """A tracking store with the scikit-learn model in a run, and that run's model registered."""
    # MLflow wants to be told that a store of files is meant: it has newer kinds.
    variables = {
        "MLFLOW_TRACKING_URI": (models.parent / "store").as_uri(),
        "MLFLOW_ALLOW_FILE_STORE": "true",
    }
    told = with_frameworks.python("-c", LOG, models / "sklearn", cwd=models, extra=variables)
    return variables | {"RUN": told.split()[-1]}


def export(*arguments: object, cwd: Path, extra: dict[str, str] | None = None) -> Ended:
    return with_frameworks.slipway("export", *arguments, cwd=cwd, timeout=600, extra=extra)


def test_the_onnx_flavour_is_taken_as_it_is_and_nothing_is_unpickled(
    models: Path, folder: Path
) -> None:
    ended = slipway("export", models / "onnx", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["exporter"] == "copy"
    assert onnx.load_model("model.onnx").graph.input[0].name == "scaled"


@pytest.mark.parametrize("flavor", ["sklearn", "pytorch", "pt2", "custom"])
def test_what_runs_code_is_loaded_only_with_trust(flavor: str, models: Path, folder: Path) -> None:
    ended = slipway("export", models / flavor)
    assert ended.code == 11
    assert "--trust-pickle" in ended.err


@pytest.mark.parametrize("flavor", ["pytorch", "pt2"])
def test_a_module_is_exported_with_the_packages_that_are_here(
    flavor: str, models: Path, folder: Path
) -> None:
    ended = export(models / flavor, "--trust-pickle", "--env", "current", "--json", cwd=folder)
    assert ended.code == 0, ended.err + ended.out
    assert ended.json["exporter"] == "dynamo"
    assert ended.json["validation"]["close"] is True
    (tensor,) = slipway("inspect", "model.onnx", "--json").json["inputs"]
    assert tensor["shape"] == ["batch", 4]


@pytest.mark.parametrize("uri", ["runs:/{RUN}/model", "models:/fraud/1"])
def test_a_uri_is_fetched_from_the_tracking_store_that_mlflow_is_told_of(
    uri: str, store: dict[str, str], folder: Path
) -> None:
    ended = export(
        uri.format(**store), "--trust-pickle", "--env", "current", "--json",
        cwd=folder, extra=store,
    )  # fmt: skip
    assert ended.code == 0, ended.err + ended.out
    assert ended.json["exporter"] == "skl2onnx"
    assert ended.json["validation"]["close"] is True


def test_a_uri_that_the_store_has_not_got_is_named(store: dict[str, str], folder: Path) -> None:
    ended = export("models:/fraud/9", "--trust-pickle", cwd=folder, extra=store)
    assert ended.code == 5
    assert "MLflow does not give models:/fraud/9" in ended.err


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
    with_frameworks.python("-c", code, ROOT / "examples/mlflow", models, changed, cwd=folder)
    ended = export(changed, "--trust-pickle", "--env", "current", *RANGES, cwd=folder)
    assert ended.code == 4, ended.err + ended.out
    assert "DIFFERS" in ended.out
    assert "must move into the graph" in ended.err
    assert not (folder / "model.onnx").exists()

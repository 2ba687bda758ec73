"""The kinds of source: how each is made and exported, and what its framework computes itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from source_kit.frameworks import ROOT, program

EXAMPLES = ROOT / "examples"
PYTORCH, SKLEARN = EXAMPLES / "pytorch", EXAMPLES / "scikit-learn"
COLUMNS = ("age", "income", "term", "amount")
ROWS = 64

_TORCH = ("--input", "features=FP32[batch,4]", "--output", "probabilities")
_RANGES = ("--range", "age=18:80", "--range", "income=10000:90000", "--range", "term=1:72",
           "--range", "amount=1000:50000")  # fmt: skip

# What a framework computes: given rows and a place for the answers, then what is told of the kind.
_HEAD = "import sys, numpy as np\nrows = np.load(sys.argv[1])\n"
_TAIL = "\nnp.save(sys.argv[2], answers)\n"
_OF_TORCH = """
import torch
sys.path.insert(0, sys.argv[3]); from fraud import model
answers = model.eval()(torch.from_numpy(rows)).detach().numpy()
"""
_OF_TORCHSCRIPT = """
import torch
answers = torch.jit.load(sys.argv[3])(torch.from_numpy(rows)).detach().numpy()
"""
_OF_ESTIMATOR = """
sys.path.insert(0, sys.argv[3]); import importlib
answers = importlib.import_module(sys.argv[4]).{name}.predict_proba(rows)
"""
_OF_MLFLOW_TORCH = """
import torch, mlflow.pytorch
answers = mlflow.pytorch.load_model(sys.argv[3])(torch.from_numpy(rows)).detach().numpy()
"""
_OF_MLFLOW_SKLEARN = """
import mlflow.sklearn
answers = mlflow.sklearn.load_model(sys.argv[3]).predict_proba(rows)
"""
_OF_PYFUNC = """
import pandas, mlflow.pyfunc
frame = pandas.DataFrame(rows.astype('float64'), columns=['age', 'income', 'term', 'amount'])
answers = mlflow.pyfunc.load_model(sys.argv[3]).predict(frame)
"""
_OF_ONNX = """
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[3])
answers = session.run(None, {session.get_inputs()[0].name: rows})[0]
"""
_BOOSTED = """
import lightgbm, xgboost
from sklearn.datasets import load_iris
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

x, y = load_iris(return_X_y=True)
x = x.astype('float32')
classic = GradientBoostingClassifier(n_estimators=20, random_state=0).fit(x, y)
light = make_pipeline(StandardScaler(), lightgbm.LGBMClassifier(n_estimators=20, verbose=-1))
light.fit(x, y)
extreme = xgboost.XGBClassifier(n_estimators=20).fit(x, y)
"""
_TRACED = """
import sys, torch
sys.path.insert(0, sys.argv[1]); from fraud import model
torch.jit.trace(model.eval(), torch.rand(3, 4)).save(sys.argv[2])
"""
_SAVED_WEIGHTS = """
import sys, torch
sys.path.insert(0, sys.argv[1]); from fraud import model
torch.save(model.state_dict(), sys.argv[2])
"""
_LOGGED = """
import sys, mlflow
with mlflow.start_run() as run:
    mlflow.log_artifacts(sys.argv[1], "model")
mlflow.register_model(f"runs:/{run.info.run_id}/model", "fraud")
print(run.info.run_id)
"""


Made = tuple[list[Any], list[Any]]
"""Arguments of `slipway export` and of the framework's own program."""

Make = Callable[[Path], Made]


@dataclass(frozen=True)
class Kind:
    """One kind of source.

    ``make`` makes it in a folder and returns the arguments of ``slipway export`` (none: the file
    source.onnx is the model) and those of ``truth``, the framework's own program. ``rows`` are
    asked for, and ``output`` is compared. ``by_column`` says that callers send columns by name.
    """

    name: str
    make: Make
    truth: str
    rows: np.ndarray[Any, Any]
    output: str
    cwd: Path = EXAMPLES
    by_column: bool = False
    variables: Mapping[str, str] = field(default_factory=dict[str, str])

    def answers_of_the_framework(self, folder: Path, arguments: list[Any]) -> np.ndarray[Any, Any]:
        """What the framework computes for the rows, in a process of its own."""
        given, found = folder / "rows.npy", folder / "truth.npy"
        np.save(given, self.rows)
        _python(_HEAD + self.truth + _TAIL, given, found, *arguments, variables=self.variables)
        return np.load(found)


def _python(code: str, *arguments: Any, variables: Mapping[str, str] | None = None) -> str:
    return _run("-c", code, *arguments, variables=variables)


def _run(*arguments: Any, variables: Mapping[str, str] | None = None, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        [program("python"), *map(str, arguments)],
        env=os.environ | dict(variables or {}), cwd=cwd,
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, f"{arguments[:2]}\n{done.stdout}{done.stderr}"
    return done.stdout


def _rows(low: tuple[float, ...], high: tuple[float, ...]) -> np.ndarray[Any, Any]:
    """Rows that no step of the journey has seen."""
    return np.random.default_rng(99).uniform(low, high, (ROWS, len(low))).astype(np.float32)


_PEOPLE = _rows((18, 1e4, 1, 1e3), (80, 9e4, 72, 5e4))
_SCALED = _rows((-2,) * 4, (2,) * 4)
_FLOWERS = _rows((4, 2, 1, 0.1), (8, 4.5, 7, 2.5))


class Workshop:
    """Makes sources; what several are made of is made once, in the folder ``shared``."""

    def __init__(self, shared: Path) -> None:
        self.shared = shared
        self._lock = Lock()
        # MLflow wants to be told that a store of files is meant: it has newer kinds.
        self.store = {
            "MLFLOW_TRACKING_URI": (shared / "store").as_uri(),
            "MLFLOW_ALLOW_FILE_STORE": "true",
        }

    def reference(self, reference: str, folder: Path, *flags: Any) -> Make:
        """A Python reference, which the framework's program imports too."""
        return lambda _: ([reference, *flags], [folder, reference.partition(":")[0]])

    def weights(self, folder: Path) -> Made:
        """A state_dict beside its class."""
        path = folder / "weights.pt"
        _python(_SAVED_WEIGHTS, PYTORCH, path)
        return ["fraud:Fraud", "--state-dict", path, *_TORCH], [PYTORCH]

    def scripted(self, folder: Path) -> Made:
        """TorchScript by torch.jit.script."""
        _run(PYTORCH / "torchscript.py", folder / "scripted.pt", cwd=PYTORCH)
        return [folder / "scripted.pt", *_TORCH], [folder / "scripted.pt"]

    def traced(self, folder: Path) -> Made:
        """TorchScript by torch.jit.trace."""
        _python(_TRACED, PYTORCH, folder / "traced.pt")
        return [folder / "traced.pt", *_TORCH], [folder / "traced.pt"]

    def boosted(self, name: str) -> Make:
        """An estimator of a module that trains several."""

        def make(_: Path) -> Made:
            (self.shared / "boosted.py").write_text(_BOOSTED)
            return [f"boosted:{name}", "--range", "0:8"], [self.shared, "boosted"]

        return make

    def logged(self, flavor: str, *flags: Any) -> Make:
        """A folder that MLflow has written."""

        def make(_: Path) -> Made:
            path = self._models() / flavor
            return [path, "--trust-pickle", "--env", "current", *flags], [path]

        return make

    def onnx_flavor(self, _: Path) -> Made:
        """MLflow's ONNX flavour, which needs neither trust nor an environment."""
        path = self._models() / "onnx"
        return [path], [path / "model.onnx"]

    def by_uri(self, form: str) -> Make:
        """A model in a tracking store, by its URI."""

        def make(_: Path) -> Made:
            uri = form.format(run=self._registered())
            return [uri, "--trust-pickle", "--env", "current"], [uri]

        return make

    def plain(self, folder: Path) -> Made:
        """A file that is ONNX already."""
        _run(EXAMPLES / "plain-onnx" / "make.py", folder / "source.onnx")
        return [], [folder / "source.onnx"]

    def _models(self) -> Path:
        folder = self.shared / "mlflow"
        with self._lock:
            if not folder.exists():
                _run(EXAMPLES / "mlflow/log_models.py", folder)
        return folder

    def _registered(self) -> str:
        """The id of a run that holds the scikit-learn model, which is registered as well."""
        known, model = self.shared / "run", self._models() / "sklearn"
        with self._lock:
            if not known.exists():
                known.write_text(_python(_LOGGED, model, variables=self.store).split()[-1])
        return known.read_text()


def all_kinds(shared: Path) -> list[Kind]:
    """Every kind; what several are made of lies in the folder ``shared``."""
    at = Workshop(shared)
    return [
        Kind("PyTorch module", at.reference("fraud:model", PYTORCH, *_TORCH), _OF_TORCH, _PEOPLE,
             "probabilities", PYTORCH),
        Kind("PyTorch class and state_dict", at.weights, _OF_TORCH, _PEOPLE, "probabilities",
             PYTORCH),
        Kind("TorchScript, scripted", at.scripted, _OF_TORCHSCRIPT, _PEOPLE, "probabilities"),
        Kind("TorchScript, traced", at.traced, _OF_TORCHSCRIPT, _PEOPLE, "probabilities"),
        Kind("scikit-learn pipeline", at.reference("iris:pipeline", SKLEARN),
             _OF_ESTIMATOR.format(name="pipeline"), _FLOWERS, "probabilities", SKLEARN),
        Kind("scikit-learn gradient boosting", at.boosted("classic"),
             _OF_ESTIMATOR.format(name="classic"), _FLOWERS, "probabilities", shared),
        Kind("LightGBM behind a scaler", at.boosted("light"), _OF_ESTIMATOR.format(name="light"),
             _FLOWERS, "probabilities", shared),
        Kind("XGBoost", at.boosted("extreme"), _OF_ESTIMATOR.format(name="extreme"), _FLOWERS,
             "probabilities", shared),
        Kind("MLflow: PyTorch, pickled", at.logged("pytorch"), _OF_MLFLOW_TORCH, _SCALED, "output"),
        Kind("MLflow: PyTorch, pt2", at.logged("pt2"), _OF_MLFLOW_TORCH, _SCALED, "output"),
        Kind("MLflow: scikit-learn, runs:/", at.by_uri("runs:/{run}/model"), _OF_MLFLOW_SKLEARN,
             _SCALED, "probabilities", variables=at.store),
        Kind("MLflow: scikit-learn, models:/", at.by_uri("models:/fraud/1"), _OF_MLFLOW_SKLEARN,
             _SCALED, "probabilities", variables=at.store),
        Kind("MLflow: ONNX", at.onnx_flavor, _OF_ONNX, _SCALED, "probabilities"),
        Kind("MLflow: PythonModel around ONNX", at.logged("custom", *_RANGES), _OF_PYFUNC, _PEOPLE,
             "probabilities", by_column=True),
        Kind("plain .onnx", at.plain, _OF_ONNX, _rows((-1e3,), (1e3,)), "y"),
    ]  # fmt: skip

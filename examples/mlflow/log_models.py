"""Logs one model in each flavour that slipway exports, into folders beside each other.

    python log_models.py models
    slipway export models/sklearn --trust-pickle
    slipway export models/custom --trust-pickle --out custom.onnx

`custom` is what many teams have: a PythonModel around an .onnx file, with a fitted scaler and the
order of the features as artifacts. slipway makes one graph of them, which takes the raw columns.
"""

import json
import sys
from pathlib import Path

import joblib
import mlflow.onnx
import mlflow.pyfunc
import mlflow.pytorch
import mlflow.sklearn
import numpy as np
import onnx
import onnxruntime
import pandas as pd
import torch
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

FEATURES = ["age", "income", "term", "amount"]

random = np.random.default_rng(0)
frame = pd.DataFrame(
    random.uniform((18, 1e4, 1, 1e3), (80, 9e4, 72, 5e4), (200, 4)), columns=FEATURES
)
fraud = (frame["amount"] > frame["income"] / 3).astype(int)


class FraudModel(mlflow.pyfunc.PythonModel):
    """Scales the columns in the order of the list, then asks the graph."""

    def load_context(self, context):
        self.session = onnxruntime.InferenceSession(context.artifacts["model"])
        self.scaler = joblib.load(context.artifacts["scaler"])
        self.features = json.loads(Path(context.artifacts["features"]).read_text())

    def predict(self, context, model_input, params=None):  # noqa: ARG002 - MLflow's signature
        scaled = self.scaler.transform(model_input[self.features].to_numpy())
        return self.session.run(["probabilities"], {"scaled": scaled.astype(np.float32)})[0]


def main(folder: Path, requirements: list[str] | None) -> None:
    common = {"pip_requirements": requirements} if requirements else {}
    folder.mkdir(parents=True)
    scaler = StandardScaler().fit(frame.to_numpy())
    classifier = LogisticRegression().fit(scaler.transform(frame.to_numpy()), fraud)
    mlflow.sklearn.save_model(
        classifier, folder / "sklearn", serialization_format="cloudpickle", **common
    )

    torch.manual_seed(3)
    module = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2), torch.nn.Softmax(dim=-1)
    ).eval()
    rows = random.normal(0, 1, (3, 4)).astype(np.float32)
    signature = infer_signature(rows, module(torch.from_numpy(rows)).detach().numpy())
    mlflow.pytorch.save_model(
        module, folder / "pytorch", signature=signature, serialization_format="pickle", **common
    )
    # MLflow 3's own choice: a program of torch.export. An example of more than one row leaves the
    # batch free.
    mlflow.pytorch.save_model(
        module, folder / "pt2", signature=signature, serialization_format="pt2",
        input_example=rows, **common,
    )  # fmt: skip

    parts = folder / "parts"
    parts.mkdir()
    torch.onnx.export(
        module, (torch.from_numpy(rows),), str(parts / "model.onnx"), dynamo=False,
        input_names=["scaled"], output_names=["probabilities"], opset_version=17,
        dynamic_axes={"scaled": {0: "batch"}, "probabilities": {0: "batch"}},
    )  # fmt: skip
    mlflow.onnx.save_model(onnx.load(parts / "model.onnx"), folder / "onnx", **common)

    joblib.dump(scaler, parts / "scaler.joblib")
    (parts / "features.json").write_text(json.dumps(FEATURES))
    mlflow.pyfunc.save_model(
        folder / "custom",
        python_model=FraudModel(),
        artifacts={
            "model": str(parts / "model.onnx"),
            "scaler": str(parts / "scaler.joblib"),
            "features": str(parts / "features.json"),
        },
        signature=infer_signature(frame),
        **common,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or None)

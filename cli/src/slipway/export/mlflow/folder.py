"""An MLflow model's folder: its flavours, signature and requirements. Nothing of it is run."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, YAMLError

from slipway import files
from slipway.errors import InvalidArguments, MissingExtra, NotFound
from slipway.export.mlflow.flavors import FILE_NAME, ONNX, PYFUNC, PYTORCH, SKLEARN
from slipway.model.tensor import Tensor

_CUSTOM = "mlflow.pyfunc.model"
# MLflow's names of column types, as this protocol's; scikit-learn trains on doubles.
_COLUMN_TYPES = {
    "boolean": "BOOL",
    "integer": "INT32",
    "long": "INT64",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
}
_TENSOR_TYPES = {
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "int32": "INT32",
    "int64": "INT64",
    "bool": "BOOL",
}


@dataclass(frozen=True)
class MlflowModel:
    """What an ``MLmodel`` file says.

    ``columns`` are names and datatypes of a data frame's columns, ``tensors`` inputs that the
    signature gives as tensors; ``artifacts`` are files of a custom model by name.
    """

    folder: Path
    flavor: str
    file: Path
    columns: Mapping[str, str]
    tensors: Sequence[Tensor]
    artifacts: Mapping[str, Path]
    metadata: Mapping[str, str]
    python: str

    @property
    def requirements(self) -> Path:
        """The file of the packages that it was logged with."""
        return self.folder / "requirements.txt"

    @property
    def runs_code(self) -> bool:
        """Whether loading it executes a pickle."""
        return self.flavor != ONNX


def download(uri: str, folder: Path) -> Path:
    """Fetch a model by its URI, from the server that MLFLOW_TRACKING_URI names.

    Raises:
        MissingExtra: MLflow is not installed here.
        NotFound: it does not give the model.
    """
    try:
        artifacts: Any = importlib.import_module("mlflow.artifacts")
    except ModuleNotFoundError:
        raise MissingExtra(
            "mlflow is not installed here, and only it knows where that model is",
            "pip install 'slipway[mlflow]', or name the model's folder",
        ) from None
    try:
        return Path(artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))
    except Exception as error:  # noqa: BLE001 - its stores raise whatever they like
        raise NotFound(
            f"MLflow does not give {uri}: {' '.join(str(error).split())[:300]}",
            "check the name, and MLFLOW_TRACKING_URI",
        ) from None


def read(folder: Path) -> MlflowModel:
    """Read the ``MLmodel`` file of a folder.

    Raises:
        NotFound, AccessDenied: it is not there.
        InvalidArguments: it has no flavour that can be exported.
    """
    path = files.require_file(folder / FILE_NAME)
    try:
        reader: Any = YAML(typ="safe")
        document: Any = reader.load(path)
        flavors: Mapping[str, Any] = document["flavors"]
    except (YAMLError, KeyError, TypeError) as error:
        raise InvalidArguments(f"{path} is no MLmodel file: {error}") from None
    flavor = _chosen(path, flavors)
    about = flavors[flavor]
    file = folder / str(
        about.get("data") or about.get("pickled_model") or about.get("model_data") or ""
    )
    if flavor == ONNX and file.is_dir():
        file /= "model.onnx"
    given: Mapping[str, Any] = about.get("artifacts") or {}
    signature: Mapping[str, Any] = document.get("signature") or {}
    columns, tensors = _signature(str(signature.get("inputs") or "[]"))
    run, name = document.get("run_id"), document.get("model_id") or document.get("model_uuid")
    told = {"mlflow_run": run, "mlflow_model": name}
    python = str(flavors.get(PYFUNC, {}).get("python_version") or "")
    return MlflowModel(
        folder,
        flavor,
        file,
        columns,
        tensors,
        {key: folder / str(value["path"]) for key, value in given.items()},
        {key: str(value) for key, value in told.items() if value},
        python,
    )


def _chosen(path: Path, flavors: Mapping[str, Any]) -> str:
    for flavor in (ONNX, PYTORCH, SKLEARN):
        if flavor in flavors:
            return flavor
    if flavors.get(PYFUNC, {}).get("loader_module") == _CUSTOM:
        return PYFUNC
    raise InvalidArguments(
        f"{path} has the flavours {', '.join(flavors)}, none of which can be exported",
        "log it as onnx, pytorch, sklearn or a PythonModel around an .onnx file",
    )


def _signature(text: str) -> tuple[dict[str, str], list[Tensor]]:
    entries: list[dict[str, Any]] = json.loads(text)
    columns: dict[str, str] = {}
    tensors: list[Tensor] = []
    for index, entry in enumerate(entries):
        if entry["type"] == "tensor":
            spec = entry["tensor-spec"]
            shape = tuple(
                size if size >= 0 else ("batch" if axis == 0 else f"size_{axis}")
                for axis, size in enumerate(spec["shape"])
            )
            name = str(entry.get("name") or ("input" if len(entries) == 1 else f"input_{index}"))
            dtype = str(spec["dtype"])
            tensors.append(Tensor(name, _TENSOR_TYPES.get(dtype, dtype), shape))
        elif entry.get("name") is not None:
            columns[str(entry["name"])] = _COLUMN_TYPES.get(str(entry["type"]), str(entry["type"]))
    return columns, tensors

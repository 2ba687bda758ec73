"""What is to be exported: recognised by its form, and read without running code from files."""

from __future__ import annotations

import importlib
import re
import sys
import zipfile
from enum import Enum
from pathlib import Path
from typing import Any

from slipway import files
from slipway.errors import (
    InvalidArguments,
    MissingExtra,
    NotFound,
    SlipwayError,
    UntrustedPickle,
)
from slipway.export.mlflow import flavors as mlflow

_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class Kind(Enum):
    """Forms of a source."""

    PYTHON = "a Python reference"
    TORCHSCRIPT = "a TorchScript file"
    TORCH_PICKLE = "a PyTorch file"
    PICKLE = "a pickle"
    MLFLOW = "an MLflow model"


def recognise(source: str) -> Kind:
    """Return what a source is.

    Raises:
        NotFound, InvalidArguments: it is nothing that can be exported.
    """
    path = Path(source)
    if not path.exists() and _REFERENCE.fullmatch(source):
        return Kind.PYTHON
    if mlflow.is_uri(source) or (path / mlflow.FILE_NAME).is_file():
        return Kind.MLFLOW
    files.require_file(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any("/code/" in name for name in names):
            return Kind.TORCHSCRIPT
        if any(name.endswith("/data.pkl") for name in names):
            return Kind.TORCH_PICKLE
    if path.suffix in (".pkl", ".pickle", ".joblib"):
        return Kind.PICKLE
    raise InvalidArguments(
        f"{source} is neither a Python reference, nor TorchScript, nor MLflow, nor a pickle",
        "module:attribute, FILE.pt (torch.jit.save), a folder with an MLmodel file, or with"
        " --trust-pickle FILE.pkl",
    )


def attribute(reference: str) -> Any:
    """Import ``module:attribute``; this folder is on the path, as for python itself.

    Raises:
        NotFound: there is no such module or attribute.
        MissingExtra: the module imports something that is not installed.
    """
    name, _, path = reference.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(name)
        for part in path.split("."):
            found = getattr(found, part)
    except AttributeError as error:
        if error.name is None or error.name not in path.split("."):
            raise _failing(name, error) from None
        raise NotFound(f"{name} has no {path!r}", "module:attribute names a model in it") from None
    except ModuleNotFoundError as error:
        if error.name in ("torch", "sklearn"):
            raise missing(str(error.name)) from None
        if error.name is not None and name.startswith(error.name):
            raise NotFound(f"there is no module {name!r}", f"it is looked for in {here}") from None
        raise MissingExtra(f"{name} needs {error.name}", f"pip install {error.name}") from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a module raises anything
        raise _failing(name, error) from None
    return found


def unreadable_pickle(where: object, error: Exception) -> SlipwayError:
    """Return what an error means that reading a pickle has raised."""
    if isinstance(error, ModuleNotFoundError):
        return missing(str(error.name).partition(".")[0])
    if isinstance(error, AttributeError):
        return InvalidArguments(
            f"{where} needs a class that is not to be found here: {error}",
            "a class of the script that wrote it (__main__) must go into a module that can be"
            " imported here, and the file be written again",
        )
    return InvalidArguments(
        f"{where} is no pickle that can be read here: {type(error).__name__}: {error}",
        "write it again with the versions that are installed here",
    )


def _failing(name: str, error: BaseException) -> InvalidArguments:
    text = " ".join(str(error).split())[:300]
    return InvalidArguments(
        f"{name} cannot be imported: {type(error).__name__}: {text}",
        f'python -c "import {name}" shows where; training belongs under if __name__ == "__main__"',
    )


def require_trust(source: str, trusted: bool) -> None:
    """Refuse to read what would run code, unless that was said to be wanted.

    Raises:
        UntrustedPickle: it was not.
    """
    if not trusted:
        raise UntrustedPickle(
            f"{source} holds a pickle: reading it runs whatever code whoever made it put there",
            "--trust-pickle if you made it yourself; better a state_dict: module:Class"
            " --state-dict FILE",
        )


def missing(package: str) -> MissingExtra:
    """Return the error for a framework that is not installed."""
    extra = {"torch": "torch", "sklearn": "sklearn", "skl2onnx": "sklearn"}.get(package, package)
    return MissingExtra(f"{package} is not installed here", f"pip install 'slipway[{extra}]'")

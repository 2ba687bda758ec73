"""An MLflow model as something to export, by way of a process that loads it.

The process has a Python and packages of its own (`environment`) and runs `child`. It is asked in
lines of JSON; arrays lie in .npz files, never in pickles.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, cast

import slipway
from slipway import errors
from slipway.errors import ExportFailed, SlipwayError
from slipway.export.attempt import Attempt, Exportable
from slipway.export.mlflow import environment
from slipway.export.mlflow.arrays import restore, save
from slipway.export.mlflow.folder import MlflowModel
from slipway.model import graph as graphs
from slipway.model import ort
from slipway.model.signature import Array, inputs_of
from slipway.model.tensor import Tensor
from slipway.validation.cases import Plan
from slipway.validation.ties import Choice

_CHILD = "slipway.export.mlflow.child"
_TAIL = 600


@dataclass(frozen=True)
class Wishes:
    """The exporter's options."""

    inputs: Sequence[Tensor]
    outputs: Sequence[str]
    plan: Plan
    exporter: str
    opset: int


def copied(model: MlflowModel) -> Exportable:
    """Return a model of the ONNX flavour: its file as it is. Nothing is run but the graph."""
    proto = graphs.read(model.file)
    session = ort.Session(model.file)

    def write(path: Path) -> Sequence[str]:
        for name in graphs.external_files(proto):
            (path.parent / name).parent.mkdir(parents=True, exist_ok=True)
            (path.parent / name).write_bytes((model.file.parent / name).read_bytes())
        path.write_bytes(model.file.read_bytes())
        return []

    return Exportable(
        "onnx",
        inputs_of(proto.graph),
        [Attempt("copy", write)],
        session.run_tensors,
        dict(model.metadata),
    )


@contextmanager
def loaded(model: MlflowModel, wishes: Wishes, *, current: bool) -> Generator[Exportable]:
    """Yield a model that a process has loaded; the process ends with the block.

    Raises:
        InvalidArguments, ExportFailed, MissingExtra: it cannot be loaded or exported.
    """
    with tempfile.TemporaryDirectory(prefix="slipway-mlflow-") as name:
        folder = Path(name)
        python = Path(sys.executable) if current else environment.make(model, folder)
        # Only this package: everything else must come from the environment.
        (folder / "path").mkdir()
        (folder / "path" / "slipway").symlink_to(Path(slipway.__file__).parent)
        with _Child(python, folder) as child:
            yield _exportable(child, model, wishes)


class _Child:
    """The process, asked one thing after the other."""

    def __init__(self, python: Path, folder: Path) -> None:
        self.folder = folder
        self._log = (folder / "log").open("w+b")
        self._process = subprocess.Popen(
            [python, "-m", _CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=os.environ | {"PYTHONPATH": str(folder / "path"), "ORT_DISABLE_TELEMETRY": "1"},
        )

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def ask(self, what: str, **parameters: Any) -> Any:
        """Ask for something and return the answer. Raises what the process tells of."""
        reader = cast("IO[bytes]", self._process.stdout)
        writer = cast("IO[bytes]", self._process.stdin)
        try:
            writer.write(json.dumps({"do": what, **parameters}).encode() + b"\n")
            writer.flush()
            line = reader.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            self._log.seek(0)
            said = " ".join(self._log.read().decode("utf-8", "replace").split())[-_TAIL:]
            raise ExportFailed(
                f"the process that loads the model has ended: {said}",
                "--env current loads it with the packages that are installed here",
            )
        answer = json.loads(line)
        if "error" in answer:
            kind = getattr(errors, answer["error"]["reason"], ExportFailed)
            raise cast("type[SlipwayError]", kind)(
                answer["error"]["message"], answer["error"]["hint"]
            )
        return answer["answer"]


def _exportable(child: _Child, model: MlflowModel, wishes: Wishes) -> Exportable:
    told = child.ask(
        "load",
        folder=str(model.folder.resolve()),
        flavor=model.flavor,
        columns=dict(model.columns),
        artifacts={name: str(path.resolve()) for name, path in model.artifacts.items()},
        inputs=[asdict(tensor) for tensor in (wishes.inputs or model.tensors)],
        outputs=list(wishes.outputs),
        dimensions={name: list(sizes) for name, sizes in wishes.plan.dimensions.items()},
        ranges={name: list(bounds) for name, bounds in wishes.plan.ranges.items()},
        exporter=wishes.exporter,
        opset=wishes.opset,
    )

    def attempt(name: str) -> Attempt:
        return Attempt(name, lambda path: child.ask("write", attempt=name, path=str(path)))

    def reference(feeds: Mapping[str, Array]) -> dict[str, Array]:
        given, found = child.folder / "given.npz", child.folder / "found.npz"
        save(given, feeds)
        child.ask("run", given=str(given), found=str(found))
        return restore(found)

    return Exportable(
        told["framework"],
        [
            Tensor(t["name"], t["datatype"], tuple(t["shape"]), tuple(t["typical"]))
            for t in told["inputs"]
        ],
        [attempt(name) for name in told["attempts"]],
        reference,
        dict(model.metadata) | told["metadata"],
        told["columns"],
        told["labels"],
        {name: (low, high) for name, (low, high) in told["ranges"].items()},
        {name: Choice(**choice) for name, choice in told["choices"].items()},
        told["remedy"],
        told["warnings"],
    )

"""ONNX Runtime: the only place that touches onnxruntime, which has no types."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from slipway.errors import InvalidModel
from slipway.model.signature import Array

# The official Linux wheels send telemetry unless this is set before the import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

_ort = cast("Any", onnxruntime)
VERSION: str = _ort.__version__

_ERRORS_ONLY, _FATAL_ONLY = 3, 4
_TEXT_LIMIT = 500


class Session:
    """A model loaded on the CPU."""

    def __init__(
        self, model: Path | bytes, *, optimize: bool = True, threads: int | None = None
    ) -> None:
        """Load a file, or a serialized model; without ``threads`` a run takes all cores.

        Raises:
            InvalidModel: ONNX Runtime refuses it.
        """
        options = _ort.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        if threads is not None:
            options.intra_op_num_threads = threads
        if not optimize:
            options.graph_optimization_level = _ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            self._session = _ort.InferenceSession(
                model if isinstance(model, bytes) else str(model),
                sess_options=options,
                providers=["CPUExecutionProvider"],
            )
        except Exception as error:
            raise InvalidModel(
                f"ONNX Runtime {VERSION} refuses the model: {sentence(error)}", _remedy(error)
            ) from error

    @property
    def output_names(self) -> list[str]:
        """The outputs in the model's order."""
        return [output.name for output in self._session.get_outputs()]

    def run(
        self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> dict[str, object]:
        """Run once; a tensor comes as an array, a map or sequence as lists and dicts.

        Raises:
            InvalidModel: the run fails.
        """
        names = self.output_names if outputs is None else list(outputs)
        try:
            values = self._session.run(names, dict(feeds))
        except Exception as error:
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
            raise InvalidModel(
                f"the model loads, but running it on {shapes} fails: {sentence(error)}",
                "give inputs that it can take: --samples FILE.npz, --dim NAME=SIZE or --range",
            ) from error
        return dict(zip(names, values, strict=True))

    def run_tensors(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once and return the outputs that are tensors."""
        return {
            name: np.asarray(cast("Any", value))
            for name, value in self.run(feeds).items()
            if isinstance(value, (np.ndarray, np.generic))
        }


@dataclass(frozen=True)
class Assigned:
    """A node as it will be run: by which provider, its operator and name."""

    provider: str
    operator: str
    name: str


def providers() -> list[str]:
    """Return the execution providers that this build of ONNX Runtime has; not all may be usable."""
    return list(_ort.get_available_providers())


def assignment(model: Path, provider: str) -> list[Assigned] | None:
    """Load a model for one provider, before the CPU's, and return who runs each node.

    None where ONNX Runtime goes without the provider, as it does silently where there is no such
    device, or where it is too old to report this.

    Raises:
        InvalidModel: it refuses the model.
    """
    options = _ort.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    wanted = list(dict.fromkeys((provider, "CPUExecutionProvider")))
    try:
        session = _ort.InferenceSession(str(model), options, providers=wanted)
    except Exception as error:
        raise InvalidModel(
            f"ONNX Runtime {VERSION} refuses the model: {sentence(error)}", _remedy(error)
        ) from error
    tell = getattr(session, "get_provider_graph_assignment_info", None)
    if tell is None or provider not in session.get_providers():
        return None
    return [
        Assigned(str(part.ep_name), str(node.op_type), str(node.name))
        for part in tell()
        for node in part.get_nodes()
    ]


def save_optimized(model: Path, target: Path, level: str, *, external: str = "") -> None:
    """Write the graph as ONNX Runtime has it after its optimizations.

    ``level`` is ``basic`` (ONNX's operators alone) or ``extended`` (also ONNX Runtime's fused
    ones); ``external`` names a file beside it for the tensors.

    Raises:
        InvalidModel: ONNX Runtime refuses the model.
    """
    levels = _ort.GraphOptimizationLevel
    options = _ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.graph_optimization_level = {
        "basic": levels.ORT_ENABLE_BASIC,
        "extended": levels.ORT_ENABLE_EXTENDED,
    }[level]
    options.optimized_model_filepath = str(target)
    if external:
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_file_name", external
        )
    try:
        _ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise InvalidModel(
            f"ONNX Runtime {VERSION} refuses the model: {sentence(error)}", _remedy(error)
        ) from error


def sentence(error: Exception) -> str:
    """Return what ONNX Runtime said, on one line and without the paths of its build."""
    text = " ".join(str(error).split())
    head, mark, rest = text.partition("/onnxruntime_src/")
    if mark and ") " in rest:
        text = f"{head.rstrip()} {rest.rpartition(') ')[2]}"
    return text[:_TEXT_LIMIT] or type(error).__name__


def _remedy(error: Exception) -> str:
    text = str(error)
    if "opset" in text or "IR version" in text:
        return "export it for an older opset (slipway export --opset 20)"
    if "Duplicate definition" in text:
        return "give every output a name of its own when exporting"
    if "not a registered function/op" in text:
        return "export it without custom operators: the runtime loads no operator libraries"
    if "external" in text.lower() or "No such file" in text:
        return "keep the model's external data beside it, under the name it was saved with"
    return "slipway inspect tells more about the file"

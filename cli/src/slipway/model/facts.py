"""Everything that is reported about an ONNX file, gathered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from slipway import files
from slipway.errors import InvalidModel
from slipway.model import graph as graphs
from slipway.model import ort
from slipway.model.findings import Finding, findings, not_batchable
from slipway.model.signature import inputs_of, outputs_of
from slipway.model.tensor import Tensor


@dataclass(frozen=True)
class Facts:
    """What is known about a model. ``size`` is in bytes, external files included."""

    path: Path
    digest: str
    size: int
    external_files: tuple[str, ...]
    ir_version: int
    opsets: Mapping[str, int]
    producer: str
    metadata: Mapping[str, str]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    operators: Mapping[str, int]
    parameters: int
    not_batchable: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def servable(self) -> bool:
        """Whether nothing was found that keeps the model from being served."""
        return all(finding.level != "error" for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Return the facts as a JSON document."""
        return {
            "file": str(self.path),
            "digest": self.digest,
            "size": self.size,
            "externalFiles": list(self.external_files),
            "irVersion": self.ir_version,
            "opsets": dict(self.opsets),
            "producer": self.producer,
            "metadata": dict(self.metadata),
            "inputs": [_tensor(tensor) for tensor in self.inputs],
            "outputs": [_tensor(tensor) for tensor in self.outputs],
            "operators": dict(self.operators),
            "parameters": self.parameters,
            "batchable": not self.not_batchable,
            "notBatchable": list(self.not_batchable),
            "servable": self.servable,
            "findings": [vars(finding) for finding in self.findings],
        }


def gather(path: Path, *, load: bool = True) -> Facts:
    """Read a model and return its facts; ``load`` also has ONNX Runtime load it.

    Raises:
        NotFound, AccessDenied: the file cannot be read.
        InvalidModel: it is no ONNX model.
    """
    model = graphs.read(path)
    inputs, outputs = inputs_of(model.graph), outputs_of(model.graph)
    found = findings(model, inputs, outputs)
    external = graphs.external_files(model)
    missing = [name for name in external if not (path.parent / name).is_file()]
    for name in missing:
        found.insert(
            0,
            Finding(
                "error",
                "missing-external-data",
                f"the model's tensors lie in {name}, which is not beside it",
                "copy it there, or save the model again",
            ),
        )
    if load and not missing:
        found += _refused(path, known=any(finding.level == "error" for finding in found))
    operators = Counter(
        f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
        for node in graphs.nodes(model.graph)
    )
    sizes = [(path.parent / name).stat().st_size for name in external if name not in missing]
    return Facts(
        path=path,
        digest=files.digest(path),
        size=path.stat().st_size + sum(sizes),
        external_files=tuple(external),
        ir_version=model.ir_version,
        opsets={entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        producer=" ".join(filter(None, (model.producer_name, model.producer_version))),
        metadata={entry.key: entry.value for entry in model.metadata_props},
        inputs=inputs,
        outputs=outputs,
        operators=dict(operators.most_common()),
        parameters=sum(prod(tensor.dims) for tensor in model.graph.initializer),
        not_batchable=tuple(not_batchable(inputs, outputs)),
        findings=tuple(found),
    )


def _refused(path: Path, *, known: bool) -> list[Finding]:
    try:
        ort.Session(path)
    except InvalidModel as error:
        # Named already, in better words.
        return [] if known else [Finding("error", "refused", error.message, error.hint)]
    return []


def _tensor(tensor: Tensor) -> dict[str, Any]:
    shape = None if tensor.shape is None else list(tensor.shape)
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": shape}

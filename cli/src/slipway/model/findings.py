"""What ONNX Runtime or the runtime would refuse, or do otherwise than expected. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import onnx
import onnx.defs

from slipway.model import graph as graphs
from slipway.model.tensor import BF16, Tensor

_ORT_DOMAINS = {
    "com.microsoft",
    "com.microsoft.nchwc",
    "com.ms.internal.nhwc",
    "ai.onnx.training",
    "ai.onnx.preview.training",
}
_ONNX_DOMAINS = {"", "ai.onnx", "ai.onnx.ml"}
_OLDEST_OPSET = 7


@dataclass(frozen=True)
class Finding:
    """Something worth knowing; an ``error`` means that the model cannot be served."""

    level: Literal["error", "warning"]
    code: str
    message: str
    remedy: str


def findings(
    model: onnx.ModelProto, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
) -> list[Finding]:
    """Return all findings about a model, errors first."""
    found = [
        *_names(model.graph),
        *_opsets(model),
        *_operators(model),
        *_inputs(inputs),
        *_outputs(outputs),
    ]
    return sorted(found, key=lambda finding: finding.level != "error")


def not_batchable(inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> list[str]:
    """Return why requests cannot be batched: one sentence each, none where they can.

    The runtime batches where dimension 0 of every input and output is symbolic.
    """
    reasons: list[str] = []
    for kind, tensors in (("input", inputs), ("output", outputs)):
        for tensor in tensors:
            label = f"{kind} {tensor.name!r}"
            if tensor.shape is None:
                reasons.append(f"{label} has no shape")
            elif not tensor.shape:
                reasons.append(f"{label} is a scalar")
            elif tensor.batch is None:
                reasons.append(f"dimension 0 of {label} is fixed at {tensor.shape[0]}")
    names = sorted({tensor.batch for tensor in inputs if tensor.batch not in (None, "?")} - {None})
    if len(names) > 1:
        listed = ", ".join(str(name) for name in names)
        reasons.append(f"the inputs' first dimensions have different names: {listed}")
    return reasons


def _names(graph: onnx.GraphProto) -> Iterator[Finding]:
    outputs = Counter(value.name for value in graph.output)
    for name, count in outputs.items():
        if count > 1:
            yield Finding(
                "error",
                "duplicate-output",
                f"{count} outputs are called {name!r}; ONNX Runtime refuses that",
                "give every output a name of its own when exporting",
            )
    made = Counter(name for node in graph.node for name in node.output if name)
    made.update(value.name for value in graph.input)
    for name, count in made.items():
        if count > 1:
            yield Finding(
                "error",
                "duplicate-value",
                f"{name!r} is defined {count} times in the graph; ONNX Runtime refuses that",
                "export the model again, with other input and output names",
            )


def _opsets(model: onnx.ModelProto) -> Iterator[Finding]:
    newest = onnx.defs.onnx_opset_version()
    for entry in model.opset_import:
        if entry.domain not in ("", "ai.onnx"):
            continue
        if entry.version > newest:
            yield Finding(
                "error",
                "unsupported-opset",
                f"opset {entry.version} is newer than {newest}, the newest known here",
                "export it for an older opset",
            )
        elif entry.version < _OLDEST_OPSET:
            yield Finding(
                "warning",
                "old-opset",
                f"opset {entry.version} is older than what ONNX Runtime promises to run",
                "export it for a newer opset",
            )


def _operators(model: onnx.ModelProto) -> Iterator[Finding]:
    functions = {(function.domain, function.name) for function in model.functions}
    versions = {entry.domain: entry.version for entry in model.opset_import}
    seen: set[tuple[str, str]] = set()
    for node in graphs.nodes(model.graph):
        key = (node.domain, node.op_type)
        if key in seen or key in functions or node.domain in _ORT_DOMAINS:
            continue
        seen.add(key)
        if node.domain not in _ONNX_DOMAINS:
            yield Finding(
                "error",
                "custom-operator",
                f"{node.domain}.{node.op_type} is a custom operator, which the runtime lacks",
                "express it with ONNX's own operators, or as a function in the model",
            )
            continue
        domain = "" if node.domain == "ai.onnx" else node.domain
        version = versions.get(node.domain, versions.get(domain, onnx.defs.onnx_opset_version()))
        if not onnx.defs.has(node.op_type, version, domain):
            yield Finding(
                "error",
                "unknown-operator",
                f"{node.op_type} does not exist in opset {version} of {domain or 'ai.onnx'}",
                "export the model for an opset that has it",
            )


def _inputs(inputs: tuple[Tensor, ...]) -> Iterator[Finding]:
    for tensor in inputs:
        if not tensor.served:
            code = "bf16-input" if tensor.datatype == BF16 else "unserved-input"
            yield Finding(
                "error",
                code,
                f"input {tensor.name!r} is {tensor.datatype}, which the runtime does not take",
                "export it with FP32 or FP16 inputs and cast inside the graph",
            )
        elif tensor.shape is None:
            yield Finding(
                "warning",
                "no-shape",
                f"input {tensor.name!r} has no shape, so requests cannot be checked against one",
                "export it with shapes",
            )


def _outputs(outputs: tuple[Tensor, ...]) -> Iterator[Finding]:
    served = any(tensor.served for tensor in outputs)
    for tensor in outputs:
        if not tensor.served:
            yield Finding(
                "warning" if served else "error",
                "unserved-output",
                f"output {tensor.name!r} is {tensor.datatype}, which the runtime leaves out",
                "export it with tensor outputs (scikit-learn: zipmap=False), BF16 cast to FP32",
            )

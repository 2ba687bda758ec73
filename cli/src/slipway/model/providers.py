"""Which execution providers would take a model, and which of its nodes they would leave to the CPU.

Where ONNX Runtime here has a provider, that is asked. For the others coverage.json tells what is
known of their operators: for CUDA every kernel of one release, read from its registry
(``onnxruntime.capi.onnxruntime_pybind11_state.get_all_opkernel_def()``), for TensorRT and OpenVINO
what they publish. Datatypes and attributes are not in it, so it can promise too much.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import onnx
import onnx.defs

from slipway.errors import InvalidModel
from slipway.model import graph as graphs
from slipway.model import ort

CPU = "CPUExecutionProvider"
_ONNX = ("", "ai.onnx")
# What ONNX Runtime makes into initializers before providers are asked.
_FOLDED = {"Constant"}


@dataclass(frozen=True)
class Coverage:
    """What one provider would do; ``fallback`` are the nodes left to the CPU, by operator.

    ``nodes`` counts those of the graph, after ONNX Runtime's optimizations where ``asked`` says
    that it was asked. ``source`` says how it is known.
    """

    provider: str
    source: str
    asked: bool
    nodes: int
    fallback: Mapping[str, Sequence[str]]

    @property
    def left(self) -> int:
        """How many nodes are left to the CPU."""
        return sum(len(names) for names in self.fallback.values())

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON document."""
        return {
            "provider": self.provider,
            "source": self.source,
            "asked": self.asked,
            "nodes": self.nodes,
            "taken": self.nodes - self.left,
            "fallback": {operator: list(names) for operator, names in self.fallback.items()},
        }


def coverage(path: Path, *, ask: bool = True) -> list[Coverage]:
    """Report on each provider but the CPU's, which takes every model that can be served.

    ``ask`` has ONNX Runtime load the model with each provider that it has here.

    Raises:
        NotFound, AccessDenied, InvalidModel: it cannot be read.
    """
    model = graphs.read(path)
    here = set(ort.providers()) if ask else set[str]()
    return [
        (_asked(path, name) if name in here else None) or _by_table(model, name)
        for name in _tables()
    ]


def _asked(path: Path, provider: str) -> Coverage | None:
    """Ask ONNX Runtime; None where the provider is not usable here, or fails."""
    try:
        assigned = ort.assignment(path, provider)
    except InvalidModel:
        return None
    if assigned is None:
        return None
    left = [(node.operator, node.name) for node in assigned if node.provider == CPU]
    return Coverage(
        provider, f"ONNX Runtime {ort.VERSION} on this machine", True, len(assigned), _grouped(left)
    )


def _by_table(model: onnx.ModelProto, provider: str) -> Coverage:
    table = _tables()[provider]
    versions = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    bodies = {(function.domain, function.name) for function in model.functions}
    nodes = [
        node
        for node in _all_nodes(model)
        if node.op_type not in _FOLDED and (node.domain, node.op_type) not in bodies
    ]
    left = [
        (_label(node), node.name or ", ".join(node.output))
        for node in nodes
        if not _taken(node.op_type, node.domain, versions, table)
    ]
    return Coverage(provider, str(table["source"]), False, len(nodes), _grouped(left))


def _all_nodes(model: onnx.ModelProto) -> Iterable[onnx.NodeProto]:
    yield from graphs.nodes(model.graph)
    for function in model.functions:
        yield from function.node


def _taken(
    operator: str, domain: str, versions: Mapping[str, int], table: Mapping[str, Any]
) -> bool:
    """Whether a provider has this operator, or all of what it is defined by."""
    name = operator if domain in _ONNX else f"{domain}.{operator}"
    opset = versions.get(domain or "ai.onnx", 1)
    known = onnx.defs.has(operator, opset, "" if domain in _ONNX else domain)
    schema: Any = (
        onnx.defs.get_schema(operator, opset, "" if domain in _ONNX else domain) if known else None
    )
    if "operators" in table:
        if name in table["operators"]:
            return True
    else:
        since = schema.since_version if schema else 1
        if any(_covers(first, last, since) for first, last in table["kernels"].get(name, ())):
            return True
    if schema is None or not schema.has_function:
        return False
    body = schema.function_body
    inner = {entry.domain or "ai.onnx": entry.version for entry in body.opset_import} or versions
    return all(
        node.op_type in _FOLDED or _taken(node.op_type, node.domain, inner, table)
        for node in body.node
    )


def _covers(first: int, last: int, since: int) -> bool:
    """Whether a kernel of these versions (0: no last one) takes an operator of that version.

    ONNX Runtime takes a kernel without a last version for its first one only: a later version of
    the operator may mean something else.
    """
    return first == since if last == 0 else first <= since <= last


def _grouped(left: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for operator, name in left:
        found.setdefault(operator, []).append(name)
    return found


def _label(node: onnx.NodeProto) -> str:
    return node.op_type if node.domain in _ONNX else f"{node.domain}.{node.op_type}"


@cache
def _tables() -> Mapping[str, Mapping[str, Any]]:
    text = files("slipway.model").joinpath("coverage.json").read_text(encoding="utf-8")
    return json.loads(text)

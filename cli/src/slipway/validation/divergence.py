"""Where two graphs part: the first node whose value differs, among those that both name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import onnx

from slipway.errors import InvalidModel
from slipway.model import ort
from slipway.model.signature import Array
from slipway.validation.compare import Difference, Tolerance, difference

_LARGEST = 1_500_000_000


@dataclass(frozen=True)
class Divergence:
    """The first value that differs, and the node of the model that makes it."""

    node: str
    operator: str
    difference: Difference

    def __str__(self) -> str:
        """Return it as part of a sentence."""
        name = f" ({self.node})" if self.node else ""
        return (
            f"the first value that differs is {self.difference.output!r}, made by"
            f" {self.operator}{name}: by at most {self.difference.absolute:.3g}"
        )


def first_divergence(
    model: Path, reference: Path, feeds: Mapping[str, Array], tolerance: Tolerance
) -> Divergence | None:
    """Run both with all shared values as outputs; None where none differs or none is shared.

    Both run without graph optimizations, which would remove values.
    """
    if max(model.stat().st_size, reference.stat().st_size) > _LARGEST:
        return None
    ours, theirs = (_load(path) for path in (model, reference))
    makers = {name: node for node in ours.graph.node for name in node.output if name}
    shared = [name for name in makers if name in _values(theirs)]
    try:
        actual, wanted = (_run(graph, shared, feeds) for graph in (ours, theirs))
    except (InvalidModel, ValueError):  # ValueError: above what protobuf can serialize.
        return None
    for name in shared:
        if name not in actual or name not in wanted:
            continue
        found = difference("", name, actual[name], wanted[name], tolerance)
        if not found.close:
            return Divergence(makers[name].name, makers[name].op_type, found)
    return None


def _load(path: Path) -> onnx.ModelProto:
    return cast("Any", onnx).load_model(str(path))


def _values(model: onnx.ModelProto) -> set[str]:
    return {name for node in model.graph.node for name in node.output if name}


def _run(model: onnx.ModelProto, names: list[str], feeds: Mapping[str, Array]) -> dict[str, Array]:
    present = {value.name for value in model.graph.output}
    for name in names:
        if name not in present:
            model.graph.output.append(onnx.ValueInfoProto(name=name))
    session = ort.Session(model.SerializeToString(), optimize=False)
    return session.run_tensors(feeds)

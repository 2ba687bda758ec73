"""Whether a file from torch.export matches the module for sizes outside the exported range.

A branch on a size, such as `if x.shape[1] > 64`, is decided for the example, and the exported
program keeps the sizes for which that holds as a range; ONNX has no place for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slipway.errors import SlipwayError
from slipway.model import ort
from slipway.model.signature import Array
from slipway.model.tensor import Tensor
from slipway.validation.compare import Tolerance, differences

_SMALLEST = 2  # torch.export never supposes sizes below it to vary
_LARGEST = 16_384
_TOLERANCE = Tolerance(1e-2, 1e-4)

Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]


def frozen(
    program: Any, path: Path, inputs: Sequence[Tensor], example: Mapping[str, Array], original: Run
) -> list[str]:
    """Return a sentence for each dimension beyond whose range the original does something else.

    Where the original fails there, as with positions that it has learned up to some length, the
    range is its own.
    """
    told: list[str] = []
    for dimension, size, shown in _beyond(program, inputs):
        feeds = _resized(inputs, example, dimension, size)
        try:
            expected = original(feeds)
        except Exception:  # noqa: BLE001, S112 - modules raise everything there is
            continue
        try:
            found = ort.Session(path).run_tensors(feeds)
        except SlipwayError:
            found = {}
        if not all(item.close for item in differences("", found, expected, _TOLERANCE)):
            told.append(
                f"the file is right for {dimension!r} {shown} only, by a branch on its size"
            )
    return told


def _beyond(program: Any, inputs: Sequence[Tensor]) -> list[tuple[str, int, str]]:
    """Return dimension, the first size outside, and the range in words, for each that has one."""
    exported = getattr(program, "exported_program", None)
    if exported is None:
        return []
    values = [
        node.meta.get("val")
        for node in exported.graph.nodes
        if node.op == "placeholder" and node.name in exported.graph_signature.user_inputs
    ]
    found: dict[tuple[str, int], str] = {}
    for tensor, value in zip(inputs, values, strict=False):
        sizes = getattr(value, "shape", ())
        for name, size in zip(tensor.shape or (), sizes, strict=False):
            bounds = exported.range_constraints.get(getattr(getattr(size, "node", None), "expr", 0))
            if not isinstance(name, str) or bounds is None:
                continue
            low, high = _whole(bounds.lower), _whole(bounds.upper)
            if high is not None and high < _LARGEST:
                found[name, high + 1] = f"up to {high}"
            if low is not None and low > _SMALLEST:
                found[name, low - 1] = f"from {low} up"
    return [(name, size, shown) for (name, size), shown in found.items()]


def _whole(bound: Any) -> int | None:
    try:
        return int(bound)
    except (TypeError, ValueError, OverflowError, AttributeError):
        return None  # infinite


def _resized(
    inputs: Sequence[Tensor], example: Mapping[str, Array], dimension: str, size: int
) -> dict[str, Array]:
    feeds: dict[str, Array] = {}
    for tensor in inputs:
        array = example[tensor.name]
        for axis, name in enumerate(tensor.shape or ()):
            if name == dimension:
                array = np.take(array, np.arange(size) % array.shape[axis], axis=axis)
        feeds[tensor.name] = np.ascontiguousarray(array)
    return feeds

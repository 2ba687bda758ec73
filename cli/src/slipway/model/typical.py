"""Typical values of inputs, such as the categories of a column, as the model itself carries them.

They lie in the metadata property ``typical``, JSON such as ``{"job": ["clerk", "cook"]}``, where
the runtime finds them too. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from slipway.model.tensor import Tensor

PROPERTY = "typical"


def encode(tensors: Sequence[Tensor]) -> str:
    """Return the text of the property; empty where no input has such values."""
    found = {tensor.name: list(tensor.typical) for tensor in tensors if tensor.typical}
    return json.dumps(found, ensure_ascii=False) if found else ""


def read(metadata: Mapping[str, str], tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the tensors with their typical values, as far as the property fits them.

    Another tool may use the same word for something else, so that is no error.
    """
    try:
        found: Any = json.loads(metadata.get(PROPERTY, "{}"))
    except ValueError:
        return tuple(tensors)
    listed = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
    return tuple(_with(tensor, listed.get(tensor.name)) for tensor in tensors)


def _with(tensor: Tensor, values: Any) -> Tensor:
    wanted = str if tensor.datatype == "BYTES" else (int, float)
    listed = cast("list[Any]", values) if isinstance(values, list) else []
    if not all(isinstance(value, wanted) for value in listed):
        return tensor
    return replace(tensor, typical=tuple(listed))

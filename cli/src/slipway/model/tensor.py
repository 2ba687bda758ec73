"""What is said of a tensor, by the names that the Open Inference Protocol gives. Needs no NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

BF16 = "BF16"
NUMPY_NAMES: Mapping[str, str] = {
    "BOOL": "bool",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "object",
}
"""Datatype of the protocol -> NumPy's name of it, for what the runtime serves."""


@dataclass(frozen=True)
class Tensor:
    """An input or output.

    ``datatype`` is the protocol's name, or ONNX's in lower case for types that the protocol lacks
    (``map``, ``sequence``, ``float8e4m3fn``). ``shape`` holds a number for a fixed dimension, a
    name for a symbolic one, None for one that is not known; it is None where the rank is not.
    ``typical`` are values that its elements may have, where the model tells some.
    """

    name: str
    datatype: str
    shape: tuple[int | str | None, ...] | None
    typical: tuple[str | float, ...] = ()

    @property
    def served(self) -> bool:
        """Whether the runtime takes such a tensor."""
        return self.datatype in NUMPY_NAMES

    @property
    def batch(self) -> str | None:
        """The name of a symbolic first dimension ("?" without a name), None for a fixed one."""
        if not self.shape or isinstance(self.shape[0], int):
            return None
        return self.shape[0] or "?"

    @property
    def wire_shape(self) -> list[int]:
        """The shape as the protocol writes it: -1 for what is not fixed."""
        return [size if isinstance(size, int) else -1 for size in self.shape or ()]

    @property
    def shown_shape(self) -> str:
        """The shape as a person reads it."""
        if self.shape is None:
            return "any rank"
        return "[" + ", ".join("?" if size is None else str(size) for size in self.shape) + "]"

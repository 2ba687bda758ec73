"""What the operators of a model say about its runs, found by their names in its file.

A node holds the name of its operator as a field of its own, whose bytes are looked for: that sees
subgraphs and functions too, and needs neither the onnx package nor the memory of a parsed graph.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from pathlib import Path
from typing import Final

# Field 4 of a NodeProto, a string.
_OP_TYPE_TAG: Final = 0x22
_MAX_TIMED_BYTES: Final = 16 * 1024 * 1024

_DEPENDING_ON_VALUES: Final = frozenset(
    (
        "AffineGrid",
        "BeamSearch",
        "BlackmanWindow",
        "CenterCropPad",
        "Col2Im",
        "Compress",
        "ConstantOfShape",
        "CropAndResize",
        "DFT",
        "Expand",
        "GreedySearch",
        "HammingWindow",
        "HannWindow",
        "If",
        "ImageDecoder",
        "Loop",
        "MaxUnpool",
        "MelWeightMatrix",
        "NonMaxSuppression",
        "NonZero",
        "OneHot",
        "Pad",
        "Range",
        "RegexFullMatch",
        "Resize",
        "STFT",
        "Sampling",
        "Scan",
        "SequenceMap",
        "StringNormalizer",
        "StringSplit",
        "Tile",
        "Tokenizer",
        "TopK",
        "Unique",
        "Upsample",
        "WhisperBeamSearch",
    )
)
"""Their time, or the size of their outputs, follows from values and not from shapes alone."""

_SELECTING: Final = frozenset(("Compress", "NonMaxSuppression", "NonZero", "Unique"))
"""How many rows they give follows from values: as many as there are inputs' by chance alone."""

_PADDING: Final = frozenset(("StringSplit",))
"""They give each row as many columns as the text of the run has that has most."""

_SCALING_BY_THE_RUN: Final = frozenset(
    ("DynamicQuantizeLSTM", "DynamicQuantizeLinear", "DynamicQuantizeMatMul")
)
"""They choose one scale for all that a run holds, so each row depends on the others."""


def depends_on_shapes_alone(path: Path) -> bool:
    """Return whether a model's time can be told from the shapes of its inputs.

    A large file is not looked at: its runs are long anyway.
    """
    return path.stat().st_size <= _MAX_TIMED_BYTES and _first(path, _DEPENDING_ON_VALUES) is None


def selecting(path: Path) -> str | None:
    """Return the operator by which values decide how many rows come, if there is one."""
    return _first(path, _SELECTING)


def mixing_rows(path: Path) -> str | None:
    """Return why the rows of a run may depend on each other, where an operator tells that.

    There are others, such as a mean over the rows, which only a trial shows.
    """
    if (name := _first(path, _SCALING_BY_THE_RUN)) is not None:
        return f"{name} computes a row otherwise beside other rows"
    if (name := _first(path, _PADDING)) is not None:
        return f"{name} makes a row as wide as the widest of a run"
    if (name := selecting(path)) is not None:
        return (
            f"{name} lets values decide how many rows come, so they cannot be assigned to requests"
        )
    return None


def _first(path: Path, names: Iterable[str]) -> str | None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for name in sorted(names):
            if content.find(bytes((_OP_TYPE_TAG, len(name))) + name.encode()) >= 0:
                return name
    return None

"""Arrays from one process to another, in files of which nothing runs code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from slipway.model.signature import Array


def save(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays without a pickle: text as arrays of fixed width."""
    plain = {
        f"a{index}": array.astype(str) if array.dtype.kind == "O" else array
        for index, array in enumerate(arrays.values())
    }
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, names=np.array(list(arrays), dtype=str), **plain)


def restore(path: Path) -> dict[str, Array]:
    """Read arrays that `save` has written."""
    with np.load(path, allow_pickle=False) as content:
        names: list[str] = content["names"].tolist()
        found = {name: content[f"a{index}"] for index, name in enumerate(names)}
    return {n: a.astype(object) if a.dtype.kind == "U" else a for n, a in found.items()}

"""What a fetch that was cut off leaves for the next one: how much of which object is there.

A SHA-256 that is half computed cannot be saved, so what was kept is hashed again; that takes no
network. The journal need not be correct after a crash of the machine: the digest decides.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slipway_runtime.artifact.transfer import Kept

_EVERY_BYTES = 64 * 1024 * 1024


class Journal:
    """The journal of one file that is being fetched."""

    def __init__(self, path: Path, file: Path) -> None:
        self._path = path
        self._file = file
        self._total: int | None = None
        self._validator: str | None = None
        self._told = 0

    def read(self) -> Kept | None:
        """Return how much of the file is there, None where that is unknown."""
        try:
            told: Any = json.loads(self._path.read_bytes())
            count, total = int(told["count"]), int(told["total"])
            if 0 < count < total == self._file.stat().st_size:
                return Kept(count, str(told["validator"]))
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def begins(self, total: int | None, validator: str | None) -> None:
        """Note which object the file comes from."""
        self._total, self._validator, self._told = total, validator, 0

    def reached(self, count: int) -> None:
        """Note how many bytes lie there without a gap; recorded every so often."""
        if self._validator is None or count - self._told < _EVERY_BYTES:
            return
        self._told = count
        told = {"count": count, "total": self._total, "validator": self._validator}
        beside = self._path.with_suffix(".new")
        beside.write_text(json.dumps(told))
        beside.replace(self._path)

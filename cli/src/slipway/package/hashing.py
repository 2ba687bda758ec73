"""Digests of large files on all cores: of the whole, and of each 64 MiB chunk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from slipway import files
from slipway.package.manifest import CHUNK_BYTES, PackagedFile, chunk_count

_BLOCK_BYTES = 1024 * 1024


def packaged(
    path: Path, name: str, role: str, on_bytes: Callable[[int], None] | None = None
) -> PackagedFile:
    """Hash a file; ``name`` is its path in the package. ``on_bytes`` counts its bytes once."""
    size = path.stat().st_size
    count = chunk_count(size)
    # hashlib lets other threads run while it hashes, so whole and chunks go side by side.
    with ThreadPoolExecutor() as pool:
        whole = pool.submit(files.digest, path, on_bytes)
        chunks = tuple(pool.map(_chunk, [path] * count, range(count)))
        return PackagedFile(name, role, size, whole.result(), chunks)


def _chunk(path: Path, index: int) -> str:
    hasher = hashlib.sha256()
    left = CHUNK_BYTES
    with path.open("rb") as file:
        file.seek(index * CHUNK_BYTES)
        while left and (block := file.read(min(_BLOCK_BYTES, left))):
            hasher.update(block)
            left -= len(block)
    return f"sha256:{hasher.hexdigest()}"

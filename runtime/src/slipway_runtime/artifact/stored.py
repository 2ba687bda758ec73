"""What the cache holds under a digest: found, verified, ready to be loaded by path."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from slipway_runtime.artifact.cache import MODEL_FILE, Cache
from slipway_runtime.artifact.digest import Digest, digest_of_file, digest_of_range, mismatch
from slipway_runtime.artifact.graph import require_pinned
from slipway_runtime.artifact.manifest import (
    CHUNK_BYTES,
    FILE_NAME,
    MAX_BYTES,
    Manifest,
    PackagedFile,
    decode,
)
from slipway_runtime.errors import ArtifactNotFound, DigestMismatch, TooLarge

_CHANGED = "the cache was changed after it was written"


@dataclass(frozen=True)
class Artifact:
    """A verified artifact: a package, or a bare file without a manifest."""

    folder: Path
    model: Path
    manifest: Manifest | None

    @property
    def golden(self) -> list[Path]:
        """The files of golden samples."""
        files = self.manifest.files if self.manifest is not None else ()
        return [self.folder / file.path for file in files if file.role == "golden"]


def find(cache: Cache, digest: Digest) -> Artifact:
    """Return the artifact of a digest after hashing all of it, large files on all cores.

    Raises:
        ArtifactNotFound: the cache has nothing under this digest.
        DigestMismatch: the bytes have changed, or a file of the package is missing.
        InvalidModel: the manifest is malformed, or the graph names files that nothing pins.
    """
    folder = cache.entry(digest)
    manifest_path = folder / FILE_NAME
    bare = not manifest_path.is_file()
    path = folder / MODEL_FILE if bare else manifest_path
    try:
        if path.is_symlink() or folder.is_symlink():
            raise DigestMismatch(f"{path} is a link: {_CHANGED}", expected=str(digest))
        actual, size = digest_of_file(path), path.stat().st_size
    except OSError as error:
        raise ArtifactNotFound(
            f"the cache has no readable {path} ({error.strerror}): `slipway-runtime fetch` must"
            " run first, with the same digest and SLIPWAY_CACHE_DIR"
        ) from error
    if actual != digest:
        raise mismatch(digest, actual, size, str(path), _CHANGED)
    if bare:
        require_pinned(path, None)
        return Artifact(folder, path, None)
    manifest = read_manifest(manifest_path)
    verify(folder, manifest.files)
    model = folder / manifest.model.path
    require_pinned(model, manifest)
    return Artifact(folder, model, manifest)


def read_manifest(path: Path) -> Manifest:
    """Read a manifest that has been verified. Raises what `decode` raises."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise TooLarge(f"{FILE_NAME} has {size} bytes, the limit is {MAX_BYTES}", size=size)
    return decode(path.read_bytes())


def verify(folder: Path, files: tuple[PackagedFile, ...]) -> None:
    """Hash files of a package, on all cores.

    Raises:
        DigestMismatch: naming the file, and the chunk where it has any.
    """
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for file in files:
            _require_regular(folder, file)
        for problem in pool.map(_check, *zip(*_pieces(folder, files), strict=True)):
            if problem is not None:
                pool.shutdown(cancel_futures=True)
                raise problem


def _pieces(
    folder: Path, files: tuple[PackagedFile, ...]
) -> Iterator[tuple[Path, PackagedFile, int | None]]:
    for file in files:
        if not file.chunks:
            yield folder / file.path, file, None
        for number in range(len(file.chunks)):
            yield folder / file.path, file, number


def _check(path: Path, file: PackagedFile, chunk: int | None) -> DigestMismatch | None:
    if chunk is None:
        expected, actual, where = file.sha256, digest_of_file(path), str(path)
    else:
        expected = Digest.parse(file.chunks[chunk])
        actual = digest_of_range(path, chunk * CHUNK_BYTES, CHUNK_BYTES)
        where = f"chunk {chunk} of {path}"
    if actual == expected:
        return None
    return mismatch(expected, actual, path.stat().st_size, where, _CHANGED)


def _require_regular(folder: Path, file: PackagedFile) -> None:
    """Refuse what is missing, a link or of another size; the manifest's paths have no dots."""
    parts = PurePosixPath(file.path)
    path = folder / parts
    try:
        for link in (folder / above for above in (parts, *parts.parents)):
            if link.is_symlink():
                raise DigestMismatch(f"{link} is a link: {_CHANGED}", expected=file.digest)
        found = path.lstat()
    except OSError as error:
        raise DigestMismatch(
            f"{path} is missing ({error.strerror}): {_CHANGED}", expected=file.digest
        ) from error
    if not stat.S_ISREG(found.st_mode) or found.st_size != file.size:
        raise DigestMismatch(
            f"{path} has {found.st_size} bytes, the manifest says {file.size}: {_CHANGED}",
            expected=file.digest,
            size=found.st_size,
        )

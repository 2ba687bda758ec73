"""The content-addressed cache.

    <cache>/sha256/<hex>/model.onnx     a bare file, complete and verified when it was put there
    <cache>/sha256/<hex>/slipway.json   or a package: the manifest of that digest, and its files
    <cache>/tmp/<hex>/                  what is being fetched, locked by its writer
    <cache>/tmp/<random>/               the same, where another process fetches it too

An entry is a directory, so that a package of several files becomes visible by one rename, and
ONNX Runtime finds external data beside the graph. Writers lock their temporary directory; whoever
comes later resumes one of the same digest, and removes the others that nobody holds locked.
That also suits a cache that pods of one node share (locks on directories hold within a node).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import logging
import os
import secrets
import shutil
from collections.abc import Generator
from pathlib import Path

from slipway_runtime.artifact.digest import Digest
from slipway_runtime.errors import (
    AccessDenied,
    InvalidArguments,
    SourceUnavailable,
    TooLarge,
)

MODEL_FILE = "model.onnx"

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# How many races against other writers are tolerated.
_RENAMES = 100
# Linux: fcntl.h, and renameat2(2).
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_DIRECTORY_MODE = 0o755
_FILE_MODE = 0o644

logger = logging.getLogger(__name__)


class Cache:
    """A cache under one root directory, which must exist or be creatable."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def entry(self, digest: Digest) -> Path:
        """Return the directory in which the artifact of this digest lies, or would."""
        return self.root / "sha256" / digest.hex

    def size(self, digest: Digest) -> int:
        """Return the bytes of the artifact of this digest; 0 where there is none."""
        return sum(path.stat().st_size for path in self.entry(digest).rglob("*") if path.is_file())

    def prepare(self, wanted: Digest | None = None) -> None:
        """Make the directories and remove what interrupted writers have left.

        What they have left of the ``wanted`` digest stays, to be resumed.

        Raises:
            InvalidArguments: the cache directory cannot be written.
        """
        try:
            for directory in (self.root / "sha256", self._temporary_root):
                directory.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
            self._sweep(wanted.hex if wanted is not None else None)
        except OSError as error:
            if (full := space_error(error, self.root)) is not None:
                raise full from error
            raise InvalidArguments(
                f"the cache directory {self.root} (SLIPWAY_CACHE_DIR) cannot be written:"
                f" {error.strerror}"
            ) from error

    @contextlib.contextmanager
    def temporary(self) -> Generator[Path, None, None]:
        """Yield a new directory for a writer; it is removed unless `commit` has moved it."""
        path, lock = self._make_temporary()
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)

    @contextlib.contextmanager
    def workspace(self, digest: Digest) -> Generator[Path, None, None]:
        """Yield the directory in which this digest is fetched, with what an earlier fetch has left.

        It stays for the next fetch where the source failed, or the process; else it is removed.
        """
        path, lock = self._make_temporary(digest.hex)
        keep = False
        try:
            yield path
        except (SourceUnavailable, AccessDenied):
            keep = path.name == digest.hex
            raise
        finally:
            # Who gets the lock next may write there at once.
            if not keep:
                shutil.rmtree(path, ignore_errors=True)
            os.close(lock)

    def commit(self, temporary: Path, digest: Digest) -> Path:
        """Make a written directory the entry of this digest, durably and in one step.

        Every file is on disk before its name is. An entry that another writer has put there in
        the meantime is replaced: what is committed has just been verified. It takes its place in
        ``temporary``, so that there is an entry at any time.

        Returns the directory of the entry.
        """
        for path in sorted(temporary.rglob("*"), reverse=True):
            path.chmod(_DIRECTORY_MODE if path.is_dir() else _FILE_MODE)
            _sync(path)
        _sync(temporary)
        entry = self.entry(digest)
        for left in reversed(range(_RENAMES)):
            # Another writer may put an entry there, or take it away, between any two of these.
            try:
                temporary.rename(entry)
                break
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not left:
                    raise
            if _exchange(temporary, entry):
                break
            self.discard(digest)
        _sync(entry.parent)
        return entry

    def discard(self, digest: Digest) -> None:
        """Take an entry out of the cache, so that it is no longer loaded."""
        with self.temporary() as grave, contextlib.suppress(FileNotFoundError):
            self.entry(digest).rename(grave / "discarded")

    def require_space(self, size: int, present: int = 0) -> None:
        """Check that ``size`` bytes fit, of which some are there already.

        Raises:
            TooLarge: the volume has less space free.
        """
        free = shutil.disk_usage(self.root).free
        if size - present > free:
            here = f", {present} of them here," if present else ""
            raise TooLarge(
                f"the artifact has {size} bytes{here} and the cache volume at {self.root} has"
                f" {free} bytes free: give the cache volume more space",
                size=size,
            )

    @property
    def _temporary_root(self) -> Path:
        return self.root / "tmp"

    def _make_temporary(self, name: str = "") -> tuple[Path, int]:
        while True:
            path = self._temporary_root / (name or secrets.token_hex(8))
            path.mkdir(mode=_DIRECTORY_MODE, exist_ok=bool(name))
            name = ""
            with contextlib.suppress(FileNotFoundError, BlockingIOError):
                lock = _lock(path)
                # Between opening and locking, the directory may have been removed, and created
                # again by another.
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(lock), path.stat()):
                        return path, lock
                os.close(lock)

    def _sweep(self, kept: str | None) -> None:
        for path in self._temporary_root.iterdir():
            if path.name == kept:
                continue
            try:
                lock = _lock(path)
            except (FileNotFoundError, BlockingIOError):
                continue  # Gone, or another process is writing there.
            try:
                logger.info("removing what an interrupted fetch has left: %s", path.name)
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
            finally:
                os.close(lock)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two paths in one step; False where the file system cannot, or one is gone."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    if renameat2 is None:
        return False
    here, there = os.fsencode(one), os.fsencode(other)
    return renameat2(_AT_FDCWD, here, _AT_FDCWD, there, _RENAME_EXCHANGE) == 0


def space_error(error: OSError, root: Path) -> TooLarge | None:
    """Return TooLarge where a write failed for want of space, else None."""
    if error.errno not in _FULL:
        return None
    return TooLarge(
        f"the cache volume at {root} is full ({error.strerror}): the artifact is larger than it;"
        " give the cache volume more space"
    )


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

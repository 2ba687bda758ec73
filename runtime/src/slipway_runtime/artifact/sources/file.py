"""file:// sources: a file of this container, such as one on a mounted volume."""

from __future__ import annotations

import copy
import errno
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from slipway_runtime.artifact.sources.base import Range, ReplacedError, TransientError
from slipway_runtime.errors import AccessDenied, ArtifactNotFound, InvalidArguments


class FileSource:
    """Copies a local file into the cache, where nothing else can change it afterwards."""

    def __init__(self, uri: str) -> None:
        parts = urlsplit(uri)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise InvalidArguments("a file URI must be file:///ABSOLUTE/PATH, with three slashes")
        self._path = Path(unquote(parts.path))

    def beside(self, path: str) -> FileSource:
        """Return the file of this path in the same folder."""
        other = copy.copy(self)
        other._path = self._path.parent / path
        return other

    @property
    def description(self) -> str:
        """The URI."""
        return f"file://{self._path}"

    @contextmanager
    def open(self, wanted: Range, seconds_left: float) -> Generator[_Piece]:  # noqa: ARG002
        """Open the file at the start of the range. See `Source.open`."""
        try:
            file = self._path.open("rb", buffering=0)
        except FileNotFoundError as error:
            raise ArtifactNotFound(f"there is no file {self._path} in this container") from error
        except PermissionError as error:
            raise AccessDenied(f"this user may not read {self._path}") from error
        except OSError as error:
            raise self.unreadable(error) from error
        with file:
            found = os.fstat(file.fileno())
            validator = f"{found.st_ino}-{found.st_mtime_ns}-{found.st_size}"
            if wanted.validator not in (None, validator):
                raise ReplacedError(f"{self.description} was changed while it was read")
            file.seek(wanted.start)
            yield _Piece(file, found.st_size, validator, self, wanted.end - wanted.start)

    def unreadable(self, error: OSError) -> ArtifactNotFound | TransientError:
        """Return what it means that the file cannot be read."""
        if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            return ArtifactNotFound(f"{self._path} is not a file: {error.strerror}")
        return TransientError(f"{self._path} cannot be read: {error.strerror}")


@dataclass
class _Piece:
    """A range of an open file; see `Answer`."""

    file: BinaryIO
    total: int
    validator: str
    source: FileSource
    left: int
    ranged: bool = True

    def read(self, limit: int) -> bytes:
        """Return the next bytes of the range."""
        try:
            data = self.file.read(min(limit, self.left))
        except OSError as error:
            raise self.source.unreadable(error) from error
        self.left -= len(data)
        return data

"""file:// and pvc:// sources: a file of this container, such as one on a mounted volume."""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from urllib.parse import unquote, urlsplit

from slipway_runtime.artifact.sources.base import Range, ReplacedError, TransientError
from slipway_runtime.errors import AccessDenied, ArtifactNotFound, InvalidArguments


class FileSource:
    """Copies a local file into the cache, where nothing else can change it afterwards."""

    def __init__(self, path: Path, uri: str, root: Path | None = None) -> None:
        self._path = path
        self._uri = uri
        self._root = root  # which no link may lead out of

    @classmethod
    def from_uri(cls, uri: str) -> FileSource:
        """Return the source of file:///ABSOLUTE/PATH.

        Raises:
            InvalidArguments: the URI is malformed.
        """
        parts = urlsplit(uri)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise InvalidArguments("a file URI must be file:///ABSOLUTE/PATH, with three slashes")
        path = unquote(parts.path)
        return cls(Path(path), f"file://{path}")

    @classmethod
    def from_claim(cls, uri: str, mounted: Path | None) -> FileSource:
        """Return the source of pvc://CLAIM/PATH, the claim being mounted at ``mounted``.

        Raises:
            InvalidArguments: the URI is malformed or leads out of the claim, or none is mounted.
        """
        claim, _, path = uri.partition("://")[2].partition("/")
        if not claim or not path or ".." in path.split("/"):
            raise InvalidArguments(
                "the URI of a claim must be pvc://CLAIM/PATH, the path being from its root and"
                " without '..'"
            )
        if mounted is None or not mounted.is_dir():
            raise InvalidArguments(
                f"the claim {claim} is not mounted here: SLIPWAY_CLAIM_DIR must name the directory"
                " where it is"
            )
        source = cls(mounted / path, f"pvc://{claim}/{path}", mounted)
        source._require_inside()
        return source

    def beside(self, path: str) -> FileSource:
        """Return the file of this path in the same folder."""
        folder = self._uri.rpartition("/")[0]
        return FileSource(self._path.parent / path, f"{folder}/{path}", self._root)

    @property
    def description(self) -> str:
        """The URI."""
        return self._uri

    @contextmanager
    def open(self, wanted: Range, seconds_left: float) -> Generator[_Piece]:  # noqa: ARG002
        """Open the file at the start of the range. See `Source.open`."""
        self._require_inside()
        try:
            file = self._path.open("rb", buffering=0)
        except FileNotFoundError as error:
            raise ArtifactNotFound(f"there is no file {self._uri}") from error
        except PermissionError as error:
            raise AccessDenied(f"this user ({os.getuid()}) may not read {self._uri}") from error
        except OSError as error:
            raise self.unreadable(error) from error
        with file:
            found = os.fstat(file.fileno())
            validator = f"{found.st_ino}-{found.st_mtime_ns}-{found.st_size}"
            if wanted.validator not in (None, validator):
                raise ReplacedError(f"{self.description} was changed while it was read")
            file.seek(wanted.start)
            yield _Piece(file, found.st_size, validator, self, wanted.end - wanted.start)

    def _require_inside(self) -> None:
        if self._root is None or self._path.resolve().is_relative_to(self._root.resolve()):
            return
        raise InvalidArguments(f"{self._uri} is a link that leads out of its claim")

    def unreadable(self, error: OSError) -> ArtifactNotFound | TransientError:
        """Return the failure for a file that cannot be read."""
        if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            return ArtifactNotFound(f"{self._uri} is not a file: {error.strerror}")
        return TransientError(f"{self._uri} cannot be read: {error.strerror}")


@dataclass
class _Piece:
    """A range of an open file; see `Answer`."""

    file: FileIO
    total: int
    validator: str
    source: FileSource
    left: int
    ranged: bool = True

    def readinto(self, view: memoryview) -> int:
        """Read the next bytes of the range."""
        try:
            count = self.file.readinto(view[: self.left])
        except OSError as error:
            raise self.source.unreadable(error) from error
        self.left -= count
        return count

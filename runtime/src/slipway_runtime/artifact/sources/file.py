"""file:// sources: a file of this container, such as one on a mounted volume."""

from __future__ import annotations

import copy
import errno
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from slipway_runtime.artifact.sources.base import Sink, TransientError
from slipway_runtime.errors import AccessDenied, ArtifactNotFound, InvalidArguments

_BLOCK_BYTES = 1024 * 1024


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

    def download(self, sink: Sink, seconds_left: float) -> None:  # noqa: ARG002
        """Copy the file. See `Source.download`."""
        try:
            file = self._path.open("rb", buffering=0)
        except FileNotFoundError as error:
            raise ArtifactNotFound(f"there is no file {self._path} in this container") from error
        except PermissionError as error:
            raise AccessDenied(f"this user may not read {self._path}") from error
        except OSError as error:
            raise self._unreadable(error) from error
        with file:
            sink.expect(self._path.stat().st_size)
            while data := self._read(file.read):
                sink.write(data)

    def _read(self, read: Callable[[int], bytes | None]) -> bytes:
        try:
            return read(_BLOCK_BYTES) or b""
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> ArtifactNotFound | TransientError:
        if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            return ArtifactNotFound(f"{self._path} is not a file: {error.strerror}")
        return TransientError(f"{self._path} cannot be read: {error.strerror}")

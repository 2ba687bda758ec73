"""Reading and writing files: nothing is ever half-written, and digests are SHA-256."""

from __future__ import annotations

import filecmp
import hashlib
import os
import secrets
import shutil
import signal
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from slipway.errors import AccessDenied, Conflict, InvalidArguments, NotFound

_BLOCK_BYTES = 1024 * 1024


@contextmanager
def replacing(path: Path) -> Generator[Path, None, None]:
    """Yield a temporary path beside ``path``; it takes its place when the block ends well.

    The file is on disk before its name is. After an error, or Ctrl-C, nothing is left. Where
    ``path`` is a link, what it leads to is replaced, and the link stays.

    Raises:
        NotFound: the folder does not exist.
        AccessDenied: the folder cannot be written.
    """
    path = path.resolve() if path.is_symlink() else path
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        if path.exists():
            temporary.chmod(path.stat().st_mode & 0o7777)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.filename in (str(temporary), temporary):
            raise _refused(path.parent, error) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write(path: Path, content: bytes) -> None:
    """Write a whole file in one step."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_all(contents: Mapping[Path, bytes]) -> None:
    """Write several files, all or none: Ctrl-C waits while they take their places."""
    with ExitStack() as stack:
        for path, content in contents.items():
            stack.enter_context(replacing(path)).write_bytes(content)
        with _uninterrupted():
            stack.close()


@contextmanager
def _uninterrupted() -> Generator[None, None, None]:
    """Have Ctrl-C and SIGTERM wait, where the system lets them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def place(path: Path, target: Path, replaced: Collection[str] = ()) -> None:
    """Move a model out of a temporary folder of its own, with the files that lie beside it there.

    The model comes last, since it refers to the others. ``replaced`` are those that an earlier
    model at ``target`` has beside it, relative to its folder.

    Raises:
        Conflict: a file of another model is in the way; nothing was moved.
    """
    beside = {
        str(file.relative_to(path.parent)): file
        for file in path.parent.rglob("*")
        if file.is_file() and file != path
    }
    for name, file in beside.items():
        there = target.parent / name
        if there.exists() and name not in replaced and not filecmp.cmp(file, there, shallow=False):
            raise Conflict(
                f"{there} exists and is not of {target.name}; it was left as it is",
                "name a folder of its own with --out, or move that file",
            )
    for name, file in beside.items():
        there = target.parent / name
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(file, there)
    with replacing(target) as temporary:
        shutil.move(path, temporary)


def require_file(path: Path) -> Path:
    """Return the path of a file that exists and can be read.

    Raises:
        NotFound, AccessDenied, InvalidArguments: it does not, cannot, or is a folder.
    """
    try:
        with path.open("rb"):
            return path
    except IsADirectoryError:
        raise InvalidArguments(f"{path} is a folder, a file is wanted") from None
    except OSError as error:
        raise _refused(path, error) from None


def require_writable(path: Path) -> Path:
    """Return the path of a file that can be made or replaced, before the work that it is for.

    Raises:
        NotFound, AccessDenied, InvalidArguments: its folder is not there or cannot be written, or
            a folder has its name.
    """
    if path.is_dir():
        raise InvalidArguments(f"{path} is a folder, the name of a file is wanted")
    if not path.parent.is_dir():
        raise NotFound(f"there is no folder {path.parent}", "make it, or check the path")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise AccessDenied(f"{path.parent} cannot be written")
    return path


def digest(path: Path, on_bytes: Callable[[int], None] | None = None) -> str:
    """Return ``sha256:<hex>`` of a file; ``on_bytes`` gets the size of each block in bytes."""
    hasher = hashlib.sha256()
    block = bytearray(_BLOCK_BYTES)
    view = memoryview(block)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            hasher.update(view[:count])
            if on_bytes is not None:
                on_bytes(count)
    return f"sha256:{hasher.hexdigest()}"


def digest_of(content: bytes) -> str:
    """Return ``sha256:<hex>`` of bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _refused(path: Path, error: OSError) -> NotFound | AccessDenied:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return NotFound(f"there is no {path}", "check the path; it is relative to this folder")
    return AccessDenied(f"{path}: {error.strerror}")

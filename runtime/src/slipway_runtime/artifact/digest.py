"""SHA-256 digests: the identity of an artifact."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from slipway_runtime.errors import DigestMismatch, InvalidArguments

_FORM = re.compile(r"sha256:[0-9a-f]{64}")
_BLOCK_BYTES = 1024 * 1024
_VERSION_DIGITS = 12


@dataclass(frozen=True)
class Digest:
    """A SHA-256 digest; ``hex`` holds its 64 lower-case hexadecimal digits."""

    hex: str

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read ``sha256:<64 hexadecimal digits>``.

        Raises:
            InvalidArguments: any other form.
        """
        if not _FORM.fullmatch(text):
            raise InvalidArguments(
                f"the digest {text[:100]!r} is not of the form sha256:<64 lower-case hexadecimal"
                " digits>; `sha256sum model.onnx` prints the digits"
            )
        return cls(text.removeprefix("sha256:"))

    @property
    def version(self) -> str:
        """The model version by which requests know this digest: its first 12 digits."""
        return self.hex[:_VERSION_DIGITS]

    def __str__(self) -> str:
        return f"sha256:{self.hex}"


def digest_of_file(path: Path, on_bytes: Callable[[int], None] | None = None) -> Digest:
    """Hash a file; ``on_bytes`` is called with the size of each block in bytes.

    Raises:
        OSError: the file cannot be read.
    """
    hasher = hashlib.sha256()
    block = bytearray(_BLOCK_BYTES)
    view = memoryview(block)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            hasher.update(view[:count])
            if on_bytes is not None:
                on_bytes(count)
    return Digest(hasher.hexdigest())


def digest_of_range(path: Path, start: int, length: int) -> Digest:
    """Hash up to ``length`` bytes from ``start`` on.

    Raises:
        OSError: the file cannot be read.
    """
    hasher = hashlib.sha256()
    block = bytearray(min(_BLOCK_BYTES, length))
    view = memoryview(block)
    left = length
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while left and (count := file.readinto(view[: min(left, len(block))])):
            hasher.update(view[:count])
            left -= count
    return Digest(hasher.hexdigest())


def mismatch(
    expected: Digest, actual: Digest, size: int, where: str, advice: str
) -> DigestMismatch:
    """Build the error for bytes that differ from the pinned ones; ``size`` in bytes."""
    return DigestMismatch(
        f"{where} holds {size} bytes with the digest {actual}, expected {expected}: {advice}",
        expected=str(expected),
        actual=str(actual),
        size=size,
    )

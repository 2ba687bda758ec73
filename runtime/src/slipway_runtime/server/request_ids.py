"""The id that a request bears in headers and logs: its client's where that is safe to repeat."""

from __future__ import annotations

import random
from typing import Final

_MAX_LENGTH: Final = 128


def clean(value: bytes) -> bytes:
    """Return a client's request id if it is safe to repeat in headers and logs, else nothing."""
    if not value:
        return value
    printable = value.isascii() and value.decode("latin-1").isprintable()
    return value if printable and len(value) <= _MAX_LENGTH else b""


def new() -> bytes:
    """Return a request id that no other request is likely to have."""
    return b"%016x" % random.getrandbits(64)

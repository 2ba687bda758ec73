"""The termination message: why the process ended, for the operator to read.

The kubelet copies the file into the container's status; the API server keeps 4,096 bytes of it,
the contract 2,048. The bound is kept before encoding, so what is written always parses.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from slipway_runtime.errors import Failure
from slipway_runtime.settings import DEFAULT_TERMINATION_LOG

MAX_BYTES = 2048
_DETAIL_CHARACTERS = 200

logger = logging.getLogger(__name__)


def encode(failure: Failure) -> bytes:
    """Return the failure as one JSON object of at most 2,048 bytes, its message shortened to fit.

    The encoding is ASCII, so the count of bytes does not depend on who reads it.
    """
    document: dict[str, str | int] = {"reason": failure.reason, "message": failure.message}
    for key, value in failure.details.items():
        document[key] = value[:_DETAIL_CHARACTERS] if isinstance(value, str) else value
    encoded = json.dumps(document).encode("ascii")
    message = failure.message
    while len(encoded) > MAX_BYTES and message:
        # An escaped character takes up to 12 bytes, so cut by at least a twelfth of the excess.
        message = message[: -max(1, (len(encoded) - MAX_BYTES) // 12)]
        document["message"] = message.rstrip() + "…"
        encoded = json.dumps(document).encode("ascii")
    return encoded


def write(path: Path, failure: Failure) -> None:
    """Write the message; a log that cannot be written costs a warning, never another failure."""
    # The kubelet makes the default file beforehand; elsewhere it must not appear in /dev.
    flags = os.O_WRONLY | os.O_TRUNC | (0 if path == DEFAULT_TERMINATION_LOG else os.O_CREAT)
    try:
        descriptor = os.open(path, flags, 0o644)
        with os.fdopen(descriptor, "wb") as file:
            file.write(encode(failure))
    except FileNotFoundError:
        logger.debug("no termination log at %s: not in a pod", path)
    except OSError as error:
        logger.warning("cannot write the termination log %s: %s", path, error.strerror)

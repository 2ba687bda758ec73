"""The push itself, for ``slipway push`` and ``slipway deploy``, and what it leaves to be read."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway import files, terminal
from slipway.errors import InvalidArguments
from slipway.package import source
from slipway.storage.client import Location, Settings, connect
from slipway.storage.publish import Pushed, place_by_digest, publish


@dataclass(frozen=True)
class Done:
    """Where the artifact is now, and what was sent for it; ``size`` in bytes."""

    uri: str
    digest: str
    size: int
    objects: Sequence[Pushed]


def push(artifact: Path, to: str, key: str | None, settings: Settings) -> Done:
    """Upload a package or bare file below ``to``, or under an exact ``key`` of that bucket.

    Raises:
        InvalidArguments, Conflict, Differs, NotFound, AccessDenied, Unavailable.
    """
    base = Location.parse(to)
    with ThreadPoolExecutor(1) as pool:
        # Making a client takes Python some tenths of a second, and hashing leaves Python alone.
        connecting = pool.submit(connect, settings)
        local = source.find(artifact)
        client = connecting.result()
    entry = place_by_digest(base, local)
    if key is not None:
        if key.endswith("/") or key.startswith("/"):
            raise InvalidArguments(f"--key {key!r} must neither begin nor end with a slash")
        if local.manifest is not None and not key.endswith(f"/{local.entry_name}"):
            raise InvalidArguments(
                f"--key {key!r} is for a package, whose entry is {local.entry_name}",
                f"--key {key}/{local.entry_name}",
            )
        entry = Location(base.bucket, key)
    with terminal.transfer_bar("pushing", local.size) as advance:
        objects = publish(client, local, entry, advance)
    return Done(str(entry), local.digest, local.size, objects)


def read(path: Path) -> tuple[str, str]:
    """Return uri and digest from what ``push --json`` printed; ``-`` reads stdin.

    Raises:
        NotFound, InvalidArguments: it is not there, or something else.
    """
    text = sys.stdin.read() if str(path) == "-" else files.require_file(path).read_text("utf-8")
    try:
        told: Any = json.loads(text)
        return str(told["uri"]), str(told["digest"])
    except (ValueError, KeyError, TypeError):
        raise InvalidArguments(
            f"{path} is not what `slipway push --json` printed", "it has uri and digest"
        ) from None

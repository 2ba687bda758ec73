"""What the last fetch of an artifact took, left in the cache for `serve` to expose as metrics.

    <cache>/fetched/<hex>.json

It lies beside the entries, not in them: an entry holds what its digest pins and nothing else.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from slipway_runtime.artifact.digest import Digest


@dataclass(frozen=True)
class Fetched:
    """The bytes that one fetch brought, and its seconds from the first look at the cache.

    ``size`` is 0 where the cache held the artifact already, and the rest of it where an earlier
    fetch had begun.
    """

    size: int
    seconds: float


def write(root: Path, digest: Digest, fetched: Fetched) -> None:
    """Write the record of a fetch; a failure to write it is ignored."""
    path = _path(root, digest)
    beside = path.with_suffix(".new")
    with contextlib.suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        beside.write_text(json.dumps(asdict(fetched)))
        beside.replace(path)


def read(root: Path, digest: Digest) -> Fetched | None:
    """Return the record of the last fetch into the cache, None where there is none to be read."""
    try:
        told = json.loads(_path(root, digest).read_bytes())
        return Fetched(int(told["size"]), float(told["seconds"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _path(root: Path, digest: Digest) -> Path:
    return root / "fetched" / f"{digest.hex}.json"

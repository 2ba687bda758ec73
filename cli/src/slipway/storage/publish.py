"""Pushing a whole artifact: its files first and its entry last, so nobody sees half of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from slipway import files
from slipway.errors import Differs
from slipway.package.source import LocalArtifact
from slipway.storage.client import Client, Location
from slipway.storage.upload import PART_BYTES, Result, require_digest, upload


@dataclass(frozen=True)
class Pushed:
    """One object: where it is, its size in bytes, and whether it was there already."""

    location: Location
    size: int
    result: Result


def place_by_digest(base: Location, artifact: LocalArtifact) -> Location:
    """Return where the entry goes: a key that holds its digest, so it never means other bytes."""
    algorithm, _, hexadecimal = artifact.digest.partition(":")
    return base.join(algorithm, hexadecimal, artifact.entry_name)


def publish(
    client: Client,
    artifact: LocalArtifact,
    entry: Location,
    on_bytes: Callable[[int], None],
) -> list[Pushed]:
    """Upload all files beside the place of the entry, then the entry.

    Files of a package are compared with its manifest on the way; those that one request takes
    before anything is sent. Raises what `upload` does.
    """
    _require_small_files(artifact)
    folder = Location(entry.bucket, entry.key.rpartition("/")[0])
    done: list[Pushed] = []
    # The largest first: those are compared on the way, and until then nothing is to be seen.
    for file in sorted(artifact.files, key=lambda file: -file.size):
        place = folder.join(file.path)
        path = artifact.folder / file.path
        result = upload(client, path, place, file.digest, on_bytes, unverified=True)
        done.append(Pushed(place, file.size, result))
    size = artifact.entry.stat().st_size
    result = upload(client, artifact.entry, entry, artifact.digest, on_bytes)
    return [*done, Pushed(entry, size, result)]


def _require_small_files(artifact: LocalArtifact) -> None:
    for file in artifact.files:
        path = files.require_file(artifact.folder / file.path)
        if (size := path.stat().st_size) != file.size:
            raise Differs(f"{path} has {size} bytes, not {file.size}", "pack the model again")
        if size <= PART_BYTES:
            require_digest(path, files.digest(path), file.digest)

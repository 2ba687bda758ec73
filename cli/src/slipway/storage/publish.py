"""Pushing a whole artifact: its files first and its entry last, so nobody sees half of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from slipway.package.source import LocalArtifact
from slipway.storage.client import Client, Location
from slipway.storage.upload import Result, upload


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
    """Upload all files beside the place of the entry, then the entry. Raises what `upload` does."""
    folder = Location(entry.bucket, entry.key.rpartition("/")[0])
    done: list[Pushed] = []
    for file in artifact.files:
        place = folder.join(file.path)
        path = artifact.folder / file.path
        done.append(Pushed(place, file.size, upload(client, path, place, file.digest, on_bytes)))
    size = artifact.entry.stat().st_size
    result = upload(client, artifact.entry, entry, artifact.digest, on_bytes)
    return [*done, Pushed(entry, size, result)]

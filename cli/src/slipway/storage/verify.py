"""Reading a remote artifact again, and comparing it with its digest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from slipway import files
from slipway.errors import NotFound
from slipway.package.manifest import FILE_NAME, decode
from slipway.storage.client import Client, Location, translated
from slipway.storage.compare import digest_of, size_of

_LARGEST_MANIFEST = 64 * 1024 * 1024


@dataclass(frozen=True)
class Checked:
    """One file: what it should be and what it is; ``problem`` is empty where all is well."""

    path: str
    size: int
    digest: str
    problem: str


def verify(
    client: Client,
    location: Location,
    expected: str | None,
    on_bytes: Callable[[int], None] | None = None,
) -> list[Checked]:
    """Read an artifact, the entry first; ``expected`` is its digest, if that is known.

    Raises:
        NotFound, AccessDenied, Unavailable: of the entry.
        InvalidArguments: the manifest is none.
    """
    size = size_of(client, location)
    if location.key.rpartition("/")[2] != FILE_NAME or size > _LARGEST_MANIFEST:
        digest = digest_of(client, location, on_bytes)
        return [Checked(location.key, size, digest, _problem(expected, digest))]
    with translated(location):
        body = client.get_object(Bucket=location.bucket, Key=location.key)["Body"]
        with body:
            content: bytes = body.read()
    digest = files.digest_of(content)
    checked = [Checked(FILE_NAME, size, digest, _problem(expected, digest))]
    folder = Location(location.bucket, location.key.rpartition("/")[0])
    for file in decode(content, str(location)).files:
        try:
            found = digest_of(client, folder.join(file.path), on_bytes)
            problem = _problem(file.digest, found)
        except NotFound:
            problem = "is missing"
        checked.append(Checked(file.path, file.size, file.digest, problem))
    return checked


def digest_in(location: Location) -> str | None:
    """Return the digest that a key by digest holds."""
    parts = location.key.split("/")
    if len(parts) > 2 and parts[-3] == "sha256":  # noqa: PLR2004 - sha256/<hex>/<name>
        return f"sha256:{parts[-2]}"
    return None


def _problem(expected: str | None, found: str) -> str:
    return "" if expected in (None, found) else f"is {found}, not {expected}"

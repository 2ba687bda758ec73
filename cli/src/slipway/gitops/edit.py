"""Setting a digest, and the uri with it, in files that people keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slipway import files
from slipway.errors import InvalidArguments, NotFound
from slipway.gitops.scalars import Replacement, apply, value
from slipway.gitops.targets import find


@dataclass(frozen=True)
class Change:
    """One value of one file."""

    file: str
    name: str
    field: str
    old: str
    new: str


def set_digest(
    paths: Sequence[Path], digest: str, uri: str | None, *, name: str | None, path: str | None
) -> list[Change]:
    """Set the digest in every file, then write them; where it is so already, nothing is written.

    Raises:
        NotFound, InvalidArguments: a file has no such place; then no file was written.
    """
    planned: dict[Path, bytes] = {}
    changes: list[Change] = []
    for file in paths:
        content = files.require_file(file).read_bytes()
        edited, found = _edit(content, str(file), digest, uri, name=name, path=path)
        changes += found
        if edited != content:
            planned[file] = edited
    files.write_all(planned)
    return changes


def _edit(
    content: bytes, where: str, digest: str, uri: str | None, *, name: str | None, path: str | None
) -> tuple[bytes, list[Change]]:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidArguments(f"{where} is not UTF-8: {error.reason}") from None
    changes: list[Change] = []
    replacements: list[Replacement] = []
    for target in find(text, where, name=name, path=path):
        wanted = [("digest", target.digest, digest)]
        if uri is not None:
            if target.uri is None:
                raise NotFound(
                    f"{where} has a digest but no uri beside it, and the uri changes too",
                    "add uri there, or leave out --uri where the object's key stays the same",
                )
            wanted.append(("uri", target.uri, uri))
        for field, node, new in wanted:
            changes.append(Change(where, target.name, field, value(node), new))
            replacements.append(target.document.replacement(node, new))
    return apply(text, replacements).encode(), changes

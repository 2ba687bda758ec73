"""Setting a digest, and the uri with it, in files that people keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slipway import files
from slipway.errors import InvalidArguments, NotFound, SlipwayError
from slipway.gitops.scalars import Replacement, apply, value
from slipway.gitops.targets import Target, find


@dataclass(frozen=True)
class Change:
    """One value of one file."""

    file: str
    name: str
    field: str
    old: str
    new: str
    namespace: str = ""


@dataclass(frozen=True)
class Which:
    """The model that is meant, or the path to its digest; None stays open."""

    name: str | None = None
    namespace: str | None = None
    path: str | None = None


def set_digest(paths: Sequence[Path], digest: str, uri: str | None, which: Which) -> list[Change]:
    """Set the digest in every file, then write them; where it is so already, nothing is written.

    Raises:
        NotFound, InvalidArguments: a file has no such place; then no file was written.
    """
    planned: dict[Path, bytes] = {}
    changes: list[Change] = []
    for file in paths:
        content = files.require_file(file).read_bytes()
        edited, found = _edit(content, str(file), digest, uri, which)
        changes += found
        if edited != content:
            planned[file] = edited
    files.write_all(planned)
    return changes


def _edit(
    content: bytes, where: str, digest: str, uri: str | None, which: Which
) -> tuple[bytes, list[Change]]:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidArguments(f"{where} is not UTF-8: {error.reason}") from None
    changes: list[Change] = []
    replacements: list[Replacement] = []
    targets = _find(text, where, which)
    for target in targets:
        wanted = [("digest", target.digest, digest)]
        if uri is not None:
            if target.uri is None:
                raise NotFound(
                    f"{where} has a digest but no uri beside it, and the uri changes too",
                    f"add uri there, as {uri}; where the key stays the same, give `slipway manifest"
                    " --set-digest` the digest alone, by --digest",
                )
            wanted.append(("uri", target.uri, uri))
        for field, node, new in wanted:
            changes.append(Change(where, target.name, field, value(node), new, target.namespace))
            replacements.append(target.document.replacement(node, new))
    edited = apply(text, replacements)
    if not _says(edited, where, digest, uri, which, len(targets)):
        raise InvalidArguments(
            f"{where}: {uri or digest!r} would be read as something else in the place of the old",
            "quote the old value there first: plain text may hold no ': ' and no ' #', and quotes"
            " none of their own kind",
        )
    return edited.encode(), changes


def _find(text: str, where: str, which: Which) -> list[Target]:
    return find(text, where, name=which.name, path=which.path, namespace=which.namespace)


def _says(text: str, where: str, digest: str, uri: str | None, which: Which, count: int) -> bool:
    """Whether an edited file can be read, and says what it should."""
    try:
        targets = _find(text, where, which)
    except SlipwayError:
        return False
    return len(targets) == count and all(
        value(target.digest) == digest and uri in (None, target.uri and value(target.uri))
        for target in targets
    )

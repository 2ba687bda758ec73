"""``slipway.json``: every file of a model with its size and SHA-256, so that one digest pins all.

The form is docs/slipway.schema.json; docs/package.md explains it. Pure: no file is touched here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, cast

from slipway.errors import InvalidArguments
from slipway.model.tensor import Tensor

FILE_NAME = "slipway.json"
MODEL_NAME = "model.onnx"
GOLDEN_NAME = "golden.json"
SCHEMA_VERSION = 1
CHUNK_BYTES = 64 * 1024 * 1024
ROLES = ("model", "externalData", "golden")

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class PackagedFile:
    """One file; ``size`` in bytes. ``chunks`` are digests of each 64 MiB where it is larger."""

    path: str
    role: str
    size: int
    digest: str
    chunks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """What a ``slipway.json`` says.

    ``columns`` are names of the last dimension of an input, ``labels`` of an output, in order.
    ``golden`` holds the tolerances by which golden samples are compared. ``serving`` are hints.
    """

    name: str
    files: tuple[PackagedFile, ...]
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    golden: Mapping[str, float] = field(default_factory=dict[str, float])
    serving: Mapping[str, int] = field(default_factory=dict[str, int])
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def model(self) -> PackagedFile:
        """The graph's file."""
        return next(file for file in self.files if file.role == "model")

    @property
    def size(self) -> int:
        """The bytes of all files, the manifest itself not counted."""
        return sum(file.size for file in self.files)

    def encode(self) -> bytes:
        """Return the content of the file; the same manifest gives the same bytes."""
        document: dict[str, Any] = {
            "schemaVersion": SCHEMA_VERSION,
            "name": self.name,
            "files": [_file(file) for file in self.files],
            "inputs": [_tensor(t, "columns", self.columns.get(t.name)) for t in self.inputs],
            "outputs": [_tensor(t, "labels", self.labels.get(t.name)) for t in self.outputs],
        }
        for key, value in (
            ("golden", self.golden),
            ("serving", self.serving),
            ("metadata", self.metadata),
        ):
            if value:
                document[key] = dict(sorted(value.items()))
        return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def decode(content: bytes, where: str) -> Manifest:
    """Read a manifest; ``where`` names it in errors.

    Raises:
        InvalidArguments: it is not of the form that the schema gives.
    """
    try:
        document: Any = json.loads(content)
        if document["schemaVersion"] != SCHEMA_VERSION:
            raise InvalidArguments(
                f"{where} has the schemaVersion {document['schemaVersion']!r}, this slipway knows"
                f" {SCHEMA_VERSION}",
                "use the slipway that made it, or pack it again",
            )
        manifest = Manifest(
            name=str(document["name"]),
            files=tuple(_read_file(entry) for entry in document["files"]),
            inputs=tuple(_read_tensor(entry) for entry in document["inputs"]),
            outputs=tuple(_read_tensor(entry) for entry in document["outputs"]),
            columns=_named(document["inputs"], "columns"),
            labels=_named(document["outputs"], "labels"),
            golden=document.get("golden", {}),
            serving=document.get("serving", {}),
            metadata=document.get("metadata", {}),
        )
        _check(manifest)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidArguments(
            f"{where} is no package manifest: {_reason(error)}", "slipway pack writes one"
        ) from None
    return manifest


def is_digest(text: str) -> bool:
    """Return whether the text is ``sha256:`` and 64 lower-case hexadecimal digits."""
    return bool(_DIGEST.fullmatch(text))


def chunk_count(size: int) -> int:
    """Return how many chunks a file of ``size`` bytes has: none up to 64 MiB."""
    return -(-size // CHUNK_BYTES) if size > CHUNK_BYTES else 0


def _check(manifest: Manifest) -> None:
    paths = [file.path for file in manifest.files]
    if [file.role for file in manifest.files].count("model") != 1:
        raise ValueError("exactly one file must have the role model")
    if len({path.lower() for path in paths}) != len(paths):
        raise ValueError("two files have the same path")
    for file in manifest.files:
        parts = PurePosixPath(file.path).parts
        if not parts or file.path != "/".join(parts) or ".." in parts or "\\" in file.path:
            raise ValueError(f"the path {file.path!r} does not lie inside of the package")
        if file.path == FILE_NAME or file.path.startswith("/"):
            raise ValueError(f"no file may be called {file.path!r}")
        if file.role not in ROLES or file.size < 0:
            raise ValueError(f"{file.path!r} has a wrong role or size")
        if len(file.chunks) != chunk_count(file.size):
            raise ValueError(f"{file.path!r} has {len(file.chunks)} chunks for its size")
        if not all(is_digest(digest) for digest in (file.digest, *file.chunks)):
            raise ValueError(f"{file.path!r} has a digest that is not sha256:<64 hex digits>")


def _file(file: PackagedFile) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "path": file.path,
        "role": file.role,
        "size": file.size,
        "digest": file.digest,
    }
    if file.chunks:
        entry |= {"chunkSize": CHUNK_BYTES, "chunks": list(file.chunks)}
    return entry


def _read_file(entry: Any) -> PackagedFile:
    if entry.get("chunkSize", CHUNK_BYTES) != CHUNK_BYTES:
        raise ValueError(f"chunkSize must be {CHUNK_BYTES}")
    size = entry["size"]
    if not isinstance(size, int) or isinstance(size, bool):
        raise TypeError("size must be a whole number")
    return PackagedFile(
        str(entry["path"]), str(entry["role"]), size, str(entry["digest"]),
        tuple(entry.get("chunks", ())),
    )  # fmt: skip


def _tensor(tensor: Tensor, key: str, names: Sequence[str] | None) -> dict[str, Any]:
    shape = None if tensor.shape is None else list(tensor.shape)
    entry = {"name": tensor.name, "datatype": tensor.datatype, "shape": shape}
    return entry | ({key: list(names)} if names else {})


def _read_tensor(entry: Any) -> Tensor:
    shape = entry["shape"]
    return Tensor(
        str(entry["name"]), str(entry["datatype"]), None if shape is None else tuple(shape)
    )


def _named(entries: Any, key: str) -> dict[str, Sequence[str]]:
    return {
        cast("str", entry["name"]): cast("Sequence[str]", entry[key])
        for entry in entries
        if key in entry
    }


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)

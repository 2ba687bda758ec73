"""``slipway.json``: every file of a package with size and SHA-256. Pure: no file is touched here.

The form is docs/slipway.schema.json. A manifest is pinned by its digest and still untrusted input:
whatever it says is checked before it is used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from slipway_runtime.artifact.digest import Digest
from slipway_runtime.errors import InvalidModel, TooLarge

FILE_NAME: Final = "slipway.json"
CHUNK_BYTES: Final = 64 * 1024 * 1024
MAX_BYTES: Final = 16 * 1024 * 1024
"""The manifest's own size: room for the chunks of 10 TB."""
MAX_GOLDEN_BYTES: Final = 64 * 1024 * 1024

_MAX_FILES: Final = 10_000
_MAX_TENSORS: Final = 10_000
_MAX_PATH_BYTES: Final = 1024
_MAX_PART_BYTES: Final = 255
_MAX_SIZE: Final = 2**50
_SHOWN_PROBLEMS: Final = 3


def _check_path(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path != "/".join(parts) or ".." in parts or path == ".":
        raise ValueError(f"{path[:100]!r} does not lie inside of the package")
    if "\\" in path or not path.isprintable():
        raise ValueError(f"{path[:100]!r} holds a backslash or a control character")
    if path == FILE_NAME:
        raise ValueError(f"{FILE_NAME} is the manifest's own name")
    if len(path.encode()) > _MAX_PATH_BYTES or max(map(_bytes, parts)) > _MAX_PART_BYTES:
        raise ValueError(f"{path[:100]!r}… is longer than a file system takes")
    return path


def _bytes(text: str) -> int:
    return len(text.encode())


_Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
_Names = Annotated[tuple[str, ...], Field(min_length=1)]
_Size = Annotated[int, Field(ge=0, le=_MAX_SIZE)]


class _Strict(BaseModel):
    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        alias_generator=to_camel,
    )


class PackagedFile(_Strict):
    """One file; ``size`` in bytes. ``chunks`` are the digests of each 64 MiB of a larger one."""

    path: Annotated[str, AfterValidator(_check_path)]
    role: Literal["model", "externalData", "golden"]
    size: _Size
    digest: _Digest
    chunk_size: Literal[67108864] | None = None
    chunks: tuple[_Digest, ...] = ()

    @model_validator(mode="after")
    def _chunks_fit(self) -> PackagedFile:
        wanted = chunk_count(self.size)
        if len(self.chunks) != wanted or (self.chunk_size is None) != (wanted == 0):
            raise ValueError(f"{len(self.chunks)} chunks are listed, its size makes {wanted}")
        if self.role == "golden" and self.size > MAX_GOLDEN_BYTES:
            raise ValueError(f"golden samples may have {MAX_GOLDEN_BYTES} bytes, not {self.size}")
        return self

    @property
    def sha256(self) -> Digest:
        """The digest of the whole file."""
        return Digest.parse(self.digest)


class Tolerance(_Strict):
    """A value passes when |got - golden| <= atol + rtol * |golden|."""

    rtol: Annotated[float, Field(ge=0)]
    atol: Annotated[float, Field(ge=0)]


class _Tensor(_Strict):
    name: Annotated[str, Field(min_length=1)]
    datatype: str
    shape: tuple[int | str | None, ...] | None


class _Input(_Tensor):
    columns: _Names | None = None


class _Output(_Tensor):
    labels: _Names | None = None


class _Serving(_Strict):
    max_batch_size: Annotated[int, Field(ge=1)] | None = None


class Manifest(_Strict):
    """What a ``slipway.json`` says."""

    schema_version: Literal[1]
    name: Annotated[str, Field(min_length=1)]
    files: Annotated[tuple[PackagedFile, ...], Field(min_length=1, max_length=_MAX_FILES)]
    inputs: Annotated[tuple[_Input, ...], Field(max_length=_MAX_TENSORS)]
    outputs: Annotated[tuple[_Output, ...], Field(max_length=_MAX_TENSORS)]
    golden: Tolerance | None = None
    serving: _Serving = _Serving()
    metadata: dict[str, str] = {}

    @model_validator(mode="after")
    def _files_fit_together(self) -> Manifest:
        if [file.role for file in self.files].count("model") != 1:
            raise ValueError("exactly one file must have the role model")
        folded = [file.path.casefold() for file in self.files]
        known = set(folded)
        if len(known) != len(folded):
            raise ValueError("two files have the same path, or paths that differ in case alone")
        for path in folded:
            folder = next((str(up) for up in PurePosixPath(path).parents if str(up) in known), None)
            if folder is not None:
                raise ValueError(f"{folder[:100]!r} is both a file and a folder")
        return self

    @property
    def model(self) -> PackagedFile:
        """The graph's file."""
        return next(file for file in self.files if file.role == "model")

    @property
    def others(self) -> tuple[PackagedFile, ...]:
        """The files beside the graph."""
        return tuple(file for file in self.files if file.role != "model")

    @property
    def size(self) -> int:
        """The bytes of all files, the manifest itself not counted."""
        return sum(file.size for file in self.files)

    @property
    def columns(self) -> Mapping[str, Sequence[str]]:
        """Names of the last dimension by input, in order."""
        return {tensor.name: tensor.columns for tensor in self.inputs if tensor.columns}

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """Names of the last dimension by output, in order."""
        return {tensor.name: tensor.labels for tensor in self.outputs if tensor.labels}


def chunk_count(size: int) -> int:
    """Return how many chunks a file of ``size`` bytes has: none up to 64 MiB."""
    return -(-size // CHUNK_BYTES) if size > CHUNK_BYTES else 0


def looks_like_manifest(beginning: bytes) -> bool:
    """Return whether a file that begins so is JSON rather than ONNX.

    An ONNX file cannot begin with ``{``: there it would open a field of a kind that protobuf has
    given up and ONNX never used.
    """
    return beginning.lstrip(b" \t\r\n")[:1] == b"{"


def decode(content: bytes) -> Manifest:
    """Read a manifest.

    Raises:
        TooLarge: it has more than 16 MiB.
        InvalidModel: it is not of the form that the schema gives; says where and why.
    """
    if len(content) > MAX_BYTES:
        raise TooLarge(
            f"{FILE_NAME} has {len(content)} bytes, the limit is {MAX_BYTES}", size=len(content)
        )
    try:
        document = json.loads(content, object_pairs_hook=_object)
        version = document.get("schemaVersion") if isinstance(document, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if isinstance(version, int) and version != 1:
            raise ValueError(f"schemaVersion is {version}, this runtime knows 1")
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in problem['loc']) or 'it'}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)
        ]
        more = f" (and {len(problems) - _SHOWN_PROBLEMS} more)" * (len(problems) > _SHOWN_PROBLEMS)
        reason = "; ".join(problems[:_SHOWN_PROBLEMS]) + more
    except (ValueError, RecursionError) as error:
        reason = str(error)[:200]
    raise InvalidModel(
        f"{FILE_NAME} is no package manifest: {reason}; `slipway pack` writes one"
    ) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member is there twice")
    return found

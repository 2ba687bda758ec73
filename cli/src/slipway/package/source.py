"""What is pushed or verified on this machine: a package folder, or a bare .onnx file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slipway import files, terminal
from slipway.errors import InvalidArguments
from slipway.model import form
from slipway.package import hashing
from slipway.package.manifest import FILE_NAME, MODEL_NAME, Manifest, PackagedFile, decode


@dataclass(frozen=True)
class LocalArtifact:
    """The artifact's entry file and what else belongs to it.

    ``entry`` is the file that the digest is of: the manifest of a package, or the .onnx file.
    ``files`` are the others, with the folder they lie in.
    """

    entry: Path
    entry_name: str
    digest: str
    folder: Path
    files: tuple[PackagedFile, ...]
    manifest: Manifest | None

    @property
    def size(self) -> int:
        """All bytes."""
        return self.entry.stat().st_size + sum(file.size for file in self.files)


def find(path: Path) -> LocalArtifact:
    """Recognise a package folder, its slipway.json, or an .onnx file.

    Raises:
        NotFound, InvalidArguments, InvalidModel: it is none of them, or a bare file that needs
            others beside it.
    """
    manifest = path / FILE_NAME if path.is_dir() else path
    if manifest.name == FILE_NAME:
        content = files.require_file(manifest).read_bytes()
        decoded = decode(content, str(manifest))
        return LocalArtifact(
            manifest, FILE_NAME, files.digest_of(content), manifest.parent, decoded.files, decoded
        )
    if external := form.external_files(path):
        raise InvalidArguments(
            f"{path} keeps tensors in {', '.join(external)}, and a bare file is served alone",
            f"slipway pack {path} makes a package of them, which one digest pins",
        )
    with terminal.transfer_bar(f"hashing {path.name}", path.stat().st_size) as advance:
        digest = files.digest(path, advance)
    return LocalArtifact(path, MODEL_NAME, digest, path.parent, (), None)


def problems(artifact: LocalArtifact) -> dict[str, str]:
    """Hash every file of a package; return what is wrong by path, nothing where all is well."""
    wrong: dict[str, str] = {}
    for file in artifact.files:
        path = artifact.folder / file.path
        if not path.is_file():
            wrong[file.path] = "is missing"
            continue
        with terminal.transfer_bar(f"hashing {file.path}", file.size) as advance:
            found = hashing.packaged(path, file.path, file.role, advance)
        if found.size != file.size:
            wrong[file.path] = f"has {found.size} bytes, not {file.size}"
        elif found.digest != file.digest:
            wrong[file.path] = f"is {found.digest}, not {file.digest}"
        elif found.chunks != file.chunks:
            wrong[file.path] = "has other chunks than the manifest says"
    return wrong

"""Making a package: a folder with the model, its external data, golden samples and the manifest."""

from __future__ import annotations

import filecmp
import os
import secrets
import shutil
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from slipway import files, terminal
from slipway.errors import Conflict, Differs, InvalidArguments, InvalidModel
from slipway.model import graph as graphs
from slipway.model import names, ort, typical
from slipway.model.signature import inputs_with_typical, outputs_of
from slipway.model.tensor import Tensor
from slipway.package import golden, hashing
from slipway.package.manifest import FILE_NAME, GOLDEN_NAME, MODEL_NAME, Manifest, PackagedFile
from slipway.validation import cases
from slipway.validation.cases import Plan
from slipway.validation.compare import Tolerance, differences

# In fields of their own, or of no use without the graph.
_NOT_TOLD_TWICE = (names.COLUMNS, names.LABELS, typical.PROPERTY)


@dataclass(frozen=True)
class Wishes:
    """What a package is to hold beside the model."""

    name: str
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    samples: Sequence[Path] = ()
    plan: Plan | None = None
    tolerance: Tolerance = field(default_factory=Tolerance)
    serving: Mapping[str, int] = field(default_factory=dict[str, int])
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])


def build(model: Path, folder: Path, wishes: Wishes) -> tuple[Manifest, str]:
    """Write the package and return its manifest and digest; it appears whole or not at all.

    Raises:
        Conflict: the folder holds something else.
        InvalidArguments: columns or labels do not fit the model.
        InvalidModel: it is no model, or it fails on the samples.
    """
    proto = graphs.read(model)
    inputs, outputs = inputs_with_typical(proto), outputs_of(proto.graph)
    metadata = {entry.key: entry.value for entry in proto.metadata_props} | dict(wishes.metadata)
    columns = names.read(metadata, names.COLUMNS, inputs) | dict(wishes.columns)
    labels = names.read(metadata, names.LABELS, outputs) | dict(wishes.labels)
    names.check(columns, inputs, "columns")
    names.check(labels, outputs, "labels")
    external = graphs.external_files(proto)
    for name in external:
        if name in (FILE_NAME, MODEL_NAME, GOLDEN_NAME):
            raise InvalidArguments(
                f"external data may not be called {name}", "save the model again"
            )
        if not (model.parent / name).is_file():
            raise InvalidModel(
                f"the model's tensors lie in {name}, which is not beside it", "copy it there"
            )
    samples = _golden(model, inputs, outputs, wishes)
    with _appearing(folder) as temporary:
        packaged = [
            _add(model, temporary, MODEL_NAME, "model"),
            *(_add(model.parent / name, temporary, name, "externalData") for name in external),
        ]
        if samples is not None:
            (temporary / GOLDEN_NAME).write_bytes(samples)
            packaged.append(hashing.packaged(temporary / GOLDEN_NAME, GOLDEN_NAME, "golden"))
        tolerance = {"rtol": wishes.tolerance.relative, "atol": wishes.tolerance.absolute}
        manifest = Manifest(
            name=wishes.name,
            files=tuple(packaged),
            inputs=inputs,
            outputs=outputs,
            columns=columns,
            labels=labels,
            golden=tolerance if samples is not None else {},
            serving=wishes.serving,
            metadata={k: v for k, v in metadata.items() if k not in _NOT_TOLD_TWICE},
        )
        content = manifest.encode()
        (temporary / FILE_NAME).write_bytes(content)
    return manifest, files.digest_of(content)


def _golden(
    model: Path, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], wishes: Wishes
) -> bytes | None:
    chosen = [cases.given(path, inputs, outputs) for path in wishes.samples]
    if not chosen and wishes.plan is not None:
        chosen = cases.made(inputs, wishes.plan)
    if not chosen:
        return None
    session = ort.Session(model)
    found = [(case, session.run_tensors(case.inputs)) for case in chosen]
    for case, actual in found:
        for item in differences(case.label, actual, case.expected, wishes.tolerance):
            if not item.close:
                raise Differs(
                    f"{case.label} holds {item.output!r}, from which what the model gives is"
                    f" {item.absolute:g} apart{f' ({item.problem})' if item.problem else ''}",
                    "pack the model that the samples are of, leave the outputs out of the samples,"
                    " or allow more with --rtol and --atol",
                )
    return golden.encode(
        [(case, case.expected or actual) for case, actual in found], inputs, outputs
    )


def _add(source: Path, folder: Path, name: str, role: str) -> PackagedFile:
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Where file systems can: no second copy of the bytes, and changes to one do not show.
        _reflink(source, target)
    except OSError:
        shutil.copyfile(source, target)
    with terminal.transfer_bar(f"hashing {name}", target.stat().st_size) as advance:
        return hashing.packaged(target, name, role, advance)


def _reflink(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("wb") as writer:
        size, done = source.stat().st_size, 0
        while done < size:
            count = os.copy_file_range(reader.fileno(), writer.fileno(), size - done)
            if count == 0:
                raise OSError("copy_file_range copied nothing")
            done += count


@contextmanager
def _appearing(folder: Path) -> Generator[Path, None, None]:
    """Yield a temporary folder that becomes ``folder``, unless that holds something else."""
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    if not folder.parent.is_dir():
        raise InvalidArguments(f"there is no folder {folder.parent}", "make it, or name another")
    temporary.mkdir()
    try:
        yield temporary
        if not folder.exists():
            temporary.rename(folder)
        elif not _same(folder, temporary):
            raise Conflict(
                f"{folder} exists and holds something else; it was left as it is",
                "name another folder with --out, or remove that one",
            )
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _same(folder: Path, other: Path) -> bool:
    """Return whether a folder holds all files of another, to the byte."""
    files_of = [path.relative_to(other) for path in other.rglob("*") if path.is_file()]
    _, different, failed = filecmp.cmpfiles(folder, other, map(str, files_of), shallow=False)
    return not different and not failed

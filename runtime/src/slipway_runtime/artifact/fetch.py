"""Fetch: source -> hash while downloading -> verify -> fsync -> atomic rename into the cache."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from slipway_runtime.artifact import record
from slipway_runtime.artifact.cache import MODEL_FILE, Cache, space_error
from slipway_runtime.artifact.digest import Digest, digest_of_file, mismatch
from slipway_runtime.artifact.graph import require_pinned
from slipway_runtime.artifact.journal import Journal
from slipway_runtime.artifact.manifest import (
    CHUNK_BYTES,
    FILE_NAME,
    Manifest,
    PackagedFile,
    looks_like_manifest,
)
from slipway_runtime.artifact.progress import Progress
from slipway_runtime.artifact.retry import Patience, Retry
from slipway_runtime.artifact.sources import ReplacedError, Source
from slipway_runtime.artifact.stored import Artifact, find, read_manifest
from slipway_runtime.artifact.transfer import (
    Kept,
    NoRangesError,
    Observer,
    Pinned,
    Received,
    Transfer,
)
from slipway_runtime.errors import (
    ArtifactNotFound,
    DigestMismatch,
    SourceUnavailable,
    TooLarge,
)

_BEGINNING_BYTES = 64
_DISK_BLOCK_BYTES = 512
_MEGABYTE = 1_000_000
_REPLACED = "the object was replaced, or the digest belongs to another file"

logger = logging.getLogger(__name__)


def fetch(
    source: Source,
    digest: Digest,
    cache: Cache,
    *,
    max_bytes: int | None,
    retry: Retry,
    connections: int = 8,
) -> Path:
    """Ensure that the cache holds the artifact of this digest; return its model's path.

    The digest is that of a bare ONNX file, or of a package's manifest, which pins the other files;
    the content tells which. An artifact that lies there already is hashed, and when it matches no
    source is contacted. What an earlier fetch has left of it is resumed.

    Raises:
        DigestMismatch: the source holds other bytes.
        InvalidModel: the manifest is malformed, or the graph names files that it does not list.
        TooLarge: more than ``max_bytes`` bytes in all, or than the volume has free.
        ArtifactNotFound, AccessDenied, SourceUnavailable: what the source said.
        InvalidArguments: the cache cannot be written.
    """
    progress = Progress(retry.clock)
    cache.prepare(digest)
    if (cached := _cached(digest, cache)) is not None:
        record.write(cache.root, digest, record.Fetched(0, progress.seconds))
        return cached.model
    give_up_at = retry.clock() + retry.deadline
    with cache.workspace(digest) as workspace:
        job = _Job(cache, workspace, max_bytes, retry, give_up_at, connections, progress)
        try:
            manifest = job.fetch_root(source, digest)
            if manifest is not None:
                job.fetch_package(source, manifest)
        except SourceUnavailable as error:
            if not progress.count:
                raise
            raise SourceUnavailable(
                f"{error.message}; {progress.describe()} had come",
                fetched_bytes=progress.count,
                total_bytes=progress.total or 0,
            ) from error
        except OSError as error:
            raise space_error(error, cache.root) or error from error
        try:
            entry = cache.commit(job.folder, digest)
        except OSError as error:
            raise space_error(error, cache.root) or error from error
    record.write(cache.root, digest, record.Fetched(progress.brought, progress.seconds))
    logger.info(
        "fetched and verified %s from %s: %d bytes at %.1f MB/s",
        digest,
        source.description,
        progress.count,
        progress.rate / _MEGABYTE,
        extra={"fetched_bytes": progress.count, "total_bytes": progress.count},
    )
    return entry / (MODEL_FILE if manifest is None else manifest.model.path)


def _cached(digest: Digest, cache: Cache) -> Artifact | None:
    if not cache.entry(digest).exists():
        return None
    try:
        artifact = find(cache, digest)
    except (ArtifactNotFound, DigestMismatch) as error:
        logger.warning("what the cache holds is fetched again: %s", error.message)
        cache.discard(digest)
        return None
    logger.info("the cache holds %s already: nothing to download", digest)
    return artifact


@dataclass
class _Job:
    """One fetch in a workspace; its ``folder`` will become the entry of the cache."""

    cache: Cache
    workspace: Path
    max_bytes: int | None
    retry: Retry
    give_up_at: float
    connections: int
    progress: Progress

    @property
    def folder(self) -> Path:
        """Where the files of the artifact are written."""
        return self.workspace / "content"

    def fetch_root(self, source: Source, digest: Digest) -> Manifest | None:
        """Fetch the file that the digest is of; return it parsed if it is a manifest."""
        self.folder.mkdir(exist_ok=True)
        manifest_path = self.folder / FILE_NAME
        if manifest_path.is_file() and digest_of_file(manifest_path) == digest:
            self.progress.add(manifest_path.stat().st_size)
            return read_manifest(manifest_path)
        path = self.folder / MODEL_FILE
        journal = Journal(self.workspace / "progress.json", path)
        kept = journal.read()
        received = self._receive(source, path, _RootObserver(self, source, journal), kept)
        if received.digest != digest and kept is not None:
            logger.warning("what an earlier fetch has left is of no use: starting over")
            self.progress.count = 0
            received = self._receive(source, path, _RootObserver(self, source, journal))
        if received.digest != digest:
            assert received.digest is not None
            raise mismatch(digest, received.digest, received.size, source.description, _REPLACED)
        with path.open("rb") as file:
            if not looks_like_manifest(file.read(_BEGINNING_BYTES)):
                return None
        return read_manifest(path.rename(manifest_path))

    def fetch_package(self, source: Source, manifest: Manifest) -> None:
        """Fetch the files of a package: the graph first, since it may refuse the others."""
        total = self.progress.count + manifest.size
        check_limit(total, self.max_bytes, f"the package at {source.description}")
        self.progress.expect(total)
        self.cache.require_space(manifest.size, _present(self.folder))
        logger.info(
            "the package %s has %d files of %d bytes",
            manifest.name,
            len(manifest.files),
            manifest.size,
        )
        self._fetch_file(source, manifest.model)
        require_pinned(self.folder / manifest.model.path, manifest)
        for file in manifest.others:
            self._fetch_file(source, file)

    def _fetch_file(self, source: Source, file: PackagedFile) -> None:
        path = self.folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        pinned = None
        if file.chunks:
            pinned = Pinned(file.size, CHUNK_BYTES, [Digest.parse(text) for text in file.chunks])
        elif path.is_file() and digest_of_file(path) == file.sha256:
            self.progress.add(file.size)
            return
        there = source.beside(file.path)
        received = self._receive(there, path, _FileObserver(there, file), pinned=pinned)
        if received.size != file.size:
            raise _other_size(there, received.size, file)
        if received.digest not in (None, file.sha256):
            advice = f"the package's {FILE_NAME} pins another {file.path}: push the package again"
            raise mismatch(file.sha256, received.digest, received.size, there.description, advice)

    def _receive(
        self,
        source: Source,
        path: Path,
        observer: Observer,
        kept: Kept | None = None,
        pinned: Pinned | None = None,
    ) -> Received:
        """Transfer one object; start over where it was replaced meanwhile."""
        logger.info("fetching %s", source.description)
        patience = Patience(self.retry, self.give_up_at)
        before = self.progress.count
        while True:
            transfer = Transfer(
                source,
                path,
                observer=observer,
                progress=self.progress,
                retry=self.retry,
                give_up_at=self.give_up_at,
                connections=self.connections,
            )
            try:
                return transfer.run(kept) if pinned is None else transfer.run_chunks(pinned)
            except NoRangesError:
                pinned = None
            except ReplacedError as error:
                if kept is None:
                    patience.wait(error, progressed=False)
                kept = None
                path.unlink(missing_ok=True)
            self.progress.count = before


class _RootObserver(Observer):
    """Enforces the limits on the first file, and records how far it has come."""

    def __init__(self, job: _Job, source: Source, journal: Journal) -> None:
        self._job = job
        self._where = source.description
        self._journal = journal

    def begins(self, total: int | None, validator: str | None) -> None:
        if total is not None:
            check_limit(total, self._job.max_bytes, self._where)
            self._job.cache.require_space(total, _present(self._job.folder))
            self._job.progress.expect(total)
        self._journal.begins(total, validator)

    def wrote(self, end: int) -> None:
        check_limit(end, self._job.max_bytes, self._where, at_least=True)

    def reached(self, count: int) -> None:
        self._journal.reached(count)


class _FileObserver(Observer):
    """Enforces the size that the manifest pins for a file of a package."""

    def __init__(self, source: Source, file: PackagedFile) -> None:
        self._source = source
        self._file = file

    def begins(self, total: int | None, validator: str | None) -> None:  # noqa: ARG002
        if total is not None and total != self._file.size:
            raise _other_size(self._source, total, self._file)

    def wrote(self, end: int) -> None:
        if end > self._file.size:
            raise _other_size(self._source, end, self._file)


def check_limit(size: int, limit: int | None, where: str, *, at_least: bool = False) -> None:
    """Raise TooLarge where ``size`` bytes are more than the limit."""
    if limit is not None and size > limit:
        raise TooLarge(
            f"{where} has {'at least ' * at_least}{size} bytes, above the limit of {limit} bytes"
            " (--max-bytes): raise spec.runtime.cacheSize",
            size=size,
            limit=limit,
        )


def _other_size(source: Source, size: int, file: PackagedFile) -> DigestMismatch:
    return DigestMismatch(
        f"{source.description} has {size} bytes, and {FILE_NAME} says {file.size}:"
        " push the package again",
        expected=file.digest,
        size=size,
    )


def _present(folder: Path) -> int:
    """Return the bytes that files below a folder take on disk; holes take none."""
    return sum(
        path.stat().st_blocks * _DISK_BLOCK_BYTES for path in folder.rglob("*") if path.is_file()
    )

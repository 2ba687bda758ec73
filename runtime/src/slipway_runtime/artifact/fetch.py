"""Fetch: source -> hash while downloading -> verify -> fsync -> atomic rename into the cache."""

from __future__ import annotations

import hashlib
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from slipway_runtime.artifact.cache import MODEL_FILE, Cache, space_error
from slipway_runtime.artifact.digest import Digest, mismatch
from slipway_runtime.artifact.graph import require_pinned
from slipway_runtime.artifact.manifest import (
    FILE_NAME,
    Manifest,
    PackagedFile,
    looks_like_manifest,
)
from slipway_runtime.artifact.sources import Source, TransientError
from slipway_runtime.artifact.stored import Artifact, find, read_manifest
from slipway_runtime.errors import (
    ArtifactNotFound,
    DigestMismatch,
    SourceUnavailable,
    TooLarge,
)

_BEGINNING_BYTES = 64
_PROGRESS_SECONDS = 5.0
_MEGABYTE = 1_000_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Retry:
    """How often and how long to try. Times are in seconds.

    ``clock`` is monotonic; ``sleep`` and ``jitter`` (which draws from an interval) are here so
    that tests need not wait.
    """

    attempts: int = 5
    deadline: float = 1800.0
    first_pause: float = 0.5
    longest_pause: float = 15.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[float, float], float] = random.uniform

    def pause_after(self, attempt: int) -> float:
        """Return the pause after the n-th failed attempt, counted from 1."""
        longest = min(self.longest_pause, self.first_pause * 2 ** (attempt - 1))
        return self.jitter(longest / 2, longest)


def fetch(
    source: Source, digest: Digest, cache: Cache, *, max_bytes: int | None, retry: Retry
) -> Path:
    """Make sure that the cache holds the artifact of this digest; return its model's path.

    The digest is that of a bare ONNX file, or of a package's manifest, which pins the other files;
    the content tells which. An artifact that lies there already is hashed, and when it matches no
    source is contacted.

    Raises:
        DigestMismatch: the source holds other bytes.
        InvalidModel: the manifest is malformed, or the graph names files that it does not list.
        TooLarge: more than ``max_bytes`` bytes in all, or than the volume has free.
        ArtifactNotFound, AccessDenied, SourceUnavailable: what the source said.
        InvalidArguments: the cache cannot be written.
    """
    cache.prepare()
    if (cached := _cached(digest, cache)) is not None:
        return cached.model
    started = retry.clock()
    with cache.temporary() as folder:
        job = _Job(cache, folder, max_bytes, retry, give_up_at=started + retry.deadline)
        manifest = job.fetch_root(source, digest)
        if manifest is not None:
            job.fetch_package(source, manifest)
        entry = cache.commit(folder, digest)
    seconds = max(retry.clock() - started, 1e-6)
    logger.info(
        "fetched and verified %s from %s: %d bytes in %.1f s (%.1f MB/s)",
        digest,
        source.description,
        job.done,
        seconds,
        job.done / seconds / _MEGABYTE,
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
    """One fetch into a temporary folder; ``done`` counts the bytes of finished files."""

    cache: Cache
    folder: Path
    max_bytes: int | None
    retry: Retry
    give_up_at: float
    done: int = 0

    def fetch_root(self, source: Source, digest: Digest) -> Manifest | None:
        """Fetch the file that the digest is of; return what it says if it is a manifest."""
        path = self.folder / MODEL_FILE
        self._fetch(source, path, digest, "the object was replaced, or the digest belongs to"
                    " another file")  # fmt: skip
        with path.open("rb") as file:
            if not looks_like_manifest(file.read(_BEGINNING_BYTES)):
                return None
        manifest_path = path.rename(self.folder / FILE_NAME)
        return read_manifest(manifest_path)

    def fetch_package(self, source: Source, manifest: Manifest) -> None:
        """Fetch the files of a package: the graph first, since it may refuse the others."""
        total = self.done + manifest.size
        check_limit(total, self.max_bytes, f"the package at {source.description}")
        self.cache.require_space(manifest.size)
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
        advice = f"the package's {FILE_NAME} pins another {file.path}: push the package again"
        self._fetch(source.beside(file.path), path, file.sha256, advice, size=file.size)

    def _fetch(
        self, source: Source, path: Path, digest: Digest, advice: str, size: int | None = None
    ) -> None:
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._attempt(source, path, digest, advice, size)
            except TransientError as error:
                self._pause(attempt, error)

    def _pause(self, attempt: int, error: TransientError) -> None:
        retry = self.retry
        pause = retry.pause_after(attempt)
        if attempt >= retry.attempts or pause >= self.give_up_at - retry.clock():
            raise SourceUnavailable(
                f"{error.message} (gave up after {attempt} attempts)"
            ) from error
        logger.warning(
            "attempt %d of %d failed, the next in %.1f s: %s",
            attempt,
            retry.attempts,
            pause,
            error.message,
        )
        retry.sleep(pause)

    def _attempt(
        self, source: Source, path: Path, digest: Digest, advice: str, size: int | None
    ) -> None:
        logger.info("fetching %s", source.description)
        with HashingSink(
            path,
            self.cache,
            where=source.description,
            max_bytes=self.max_bytes,
            size=size,
            digest=digest,
            give_up_at=self.give_up_at,
            clock=self.retry.clock,
        ) as sink:
            source.download(sink, self.give_up_at - self.retry.clock())
        if sink.digest != digest:
            raise mismatch(digest, sink.digest, sink.count, source.description, advice)
        self.done += sink.count


def check_limit(size: int, limit: int | None, where: str, *, at_least: bool = False) -> None:
    """Raise TooLarge where ``size`` bytes are more than the limit."""
    if limit is not None and size > limit:
        raise TooLarge(
            f"{where} has {'at least ' * at_least}{size} bytes, above the limit of {limit} bytes"
            " (--max-bytes): raise spec.runtime.cacheSize",
            size=size,
            limit=limit,
        )


class HashingSink:
    """Writes to a file and hashes the same bytes as they come."""

    def __init__(
        self,
        path: Path,
        cache: Cache,
        *,
        where: str,
        max_bytes: int | None,
        give_up_at: float,
        size: int | None = None,
        digest: Digest | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._cache = cache
        self._where = where
        self._max_bytes = max_bytes
        self._size = size
        self._pinned = digest
        self._give_up_at = give_up_at
        self._clock = clock
        self._hasher = hashlib.sha256()
        self._total: int | None = None
        self._started = self._reported = clock()
        self.count = 0

    def __enter__(self) -> Self:
        self._file = self._path.open("wb", buffering=0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    @property
    def digest(self) -> Digest:
        """The digest of all bytes so far."""
        return Digest(self._hasher.hexdigest())

    def expect(self, total: int) -> None:
        """Hear the size in bytes. See `Sink.expect`."""
        self._total = total
        self._check_limit(total)
        self._cache.require_space(total)

    def write(self, data: bytes) -> int:
        """Hash and write. See `Sink.write`; past the deadline it raises SourceUnavailable."""
        self._check_limit(self.count + len(data))
        now = self._clock()
        if now > self._give_up_at:
            raise SourceUnavailable(
                f"the transfer of {self._where} was not done by the deadline: {self.count} bytes"
                f"{self._of_total()} came in {now - self._started:.0f} s"
            )
        self._hasher.update(data)
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise space_error(error, self._cache.root) or error from error
        self.count += len(data)
        if now - self._reported >= _PROGRESS_SECONDS:
            self._reported = now
            self._report(now)
        return len(data)

    def _check_limit(self, size: int) -> None:
        check_limit(self._total or size, self._max_bytes, self._where, at_least=not self._total)
        if self._size is not None and (size > self._size or self._total not in (None, self._size)):
            raise DigestMismatch(
                f"{self._where} has {self._total or size} bytes, and {FILE_NAME} says {self._size}:"
                " push the package again",
                expected=str(self._pinned),
                size=self._total or size,
            )

    def _report(self, now: float) -> None:
        percent = f" ({100 * self.count / self._total:.0f} %)" if self._total else ""
        rate = self.count / max(now - self._started, 1e-6) / _MEGABYTE
        logger.info(
            "fetched %.0f MB%s%s at %.1f MB/s",
            self.count / _MEGABYTE,
            self._of_total(),
            percent,
            rate,
            # docs/pod-contract.md: the operator may read these.
            extra={"fetched_bytes": self.count, "total_bytes": self._total},
        )

    def _of_total(self) -> str:
        return f" of {self._total / _MEGABYTE:.0f} MB" if self._total else ""

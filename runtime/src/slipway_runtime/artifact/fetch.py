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
from slipway_runtime.artifact.digest import Digest, digest_of_file, mismatch
from slipway_runtime.artifact.sources import Source, TransientError
from slipway_runtime.errors import SourceUnavailable, TooLarge

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
    """Make sure that the cache holds the artifact of this digest, and return its path.

    An artifact that lies there already is hashed, and when it matches no source is contacted.

    Raises:
        DigestMismatch: the source holds other bytes.
        TooLarge: more than ``max_bytes`` bytes, or than the volume has free.
        ArtifactNotFound, AccessDenied, SourceUnavailable: what the source said.
        InvalidArguments: the cache cannot be written.
    """
    cache.prepare()
    if (cached := _cached(digest, cache)) is not None:
        return cached
    give_up_at = retry.clock() + retry.deadline
    attempt = 0
    while True:
        attempt += 1
        try:
            return _attempt(
                source, digest, cache, max_bytes=max_bytes, give_up_at=give_up_at, clock=retry.clock
            )
        except TransientError as error:
            pause = retry.pause_after(attempt)
            seconds_left = give_up_at - retry.clock()
            if attempt >= retry.attempts or pause >= seconds_left:
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


def _cached(digest: Digest, cache: Cache) -> Path | None:
    path = cache.model_path(digest)
    if not path.is_file():
        return None
    actual = digest_of_file(path)
    if actual == digest:
        logger.info("the cache holds %s already: nothing to download", digest)
        return path
    logger.warning("the cache holds %s under the name of %s: fetching it again", actual, digest)
    cache.discard(digest)
    return None


def _attempt(
    source: Source,
    digest: Digest,
    cache: Cache,
    *,
    max_bytes: int | None,
    give_up_at: float,
    clock: Callable[[], float],
) -> Path:
    started = clock()
    logger.info("fetching %s", source.description)
    with cache.temporary() as directory:
        with HashingSink(
            directory / MODEL_FILE,
            cache,
            where=source.description,
            max_bytes=max_bytes,
            give_up_at=give_up_at,
            clock=clock,
        ) as sink:
            source.download(sink, give_up_at - started)
        actual = sink.digest
        if actual != digest:
            raise mismatch(
                digest,
                actual,
                sink.count,
                source.description,
                "the object was replaced, or the digest belongs to another file",
            )
        path = cache.commit(directory, digest)
    seconds = max(clock() - started, 1e-6)
    logger.info(
        "fetched and verified %s from %s: %d bytes in %.1f s (%.1f MB/s)",
        digest,
        source.description,
        sink.count,
        seconds,
        sink.count / seconds / _MEGABYTE,
    )
    return path


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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._cache = cache
        self._where = where
        self._max_bytes = max_bytes
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
        if self._max_bytes is not None and size > self._max_bytes:
            raise TooLarge(
                f"{self._where} has {'' if self._total else 'at least '}{self._total or size}"
                f" bytes, above the limit of {self._max_bytes} bytes (--max-bytes): raise"
                " spec.runtime.cacheSize",
                size=size,
                limit=self._max_bytes,
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
        )

    def _of_total(self) -> str:
        return f" of {self._total / _MEGABYTE:.0f} MB" if self._total else ""

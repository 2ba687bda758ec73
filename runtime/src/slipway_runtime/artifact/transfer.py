"""One object into one file: ranges in parallel, hashed as they come, each resumed where it broke.

    threads:   GET a range -> write it at its place        (as many at once as bring something)
    caller:    hash the blocks, in order                   (a file with one digest)
    or each thread hashes its own chunk                    (a file with a digest for each 64 MiB)

SHA-256 of a whole cannot be computed on several cores, so hashing runs beside the transfer and the
slower of the two decides how long it takes. The block that is next to be hashed is handed over in
memory; what other threads write ahead of it is hashed from the page cache. There is never more in
memory than a few blocks for each connection.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from slipway_runtime.artifact.cache import space_error
from slipway_runtime.artifact.digest import Digest, digest_of_range
from slipway_runtime.artifact.gauge import Gauge
from slipway_runtime.artifact.pace import Pace
from slipway_runtime.artifact.progress import Progress
from slipway_runtime.artifact.retry import Patience, Retry
from slipway_runtime.artifact.sources import Answer, Range, ReplacedError, Source, TransientError
from slipway_runtime.artifact.writeback import start_writeback
from slipway_runtime.errors import DigestMismatch, SourceUnavailable

PART_BYTES: Final = 16 * 1024 * 1024
_PARTS_ALONE: Final = 8
_BLOCK_BYTES: Final = 1024 * 1024
_SPARE_BLOCKS: Final = 8
_FIRST_BLOCK_BYTES: Final = 64 * 1024
_LOOKED_BLOCK_BYTES: Final = 256 * 1024
_PARTS_AHEAD: Final = 32
_CHUNK_ATTEMPTS: Final = 3
_POLL_SECONDS: Final = 1.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kept:
    """The beginning of a file that an earlier fetch has left: bytes, and of which object."""

    count: int
    validator: str


@dataclass(frozen=True)
class Pinned:
    """What a manifest says of a large file: its size, and the digest of each chunk."""

    size: int
    chunk_bytes: int
    chunks: Sequence[Digest]


@dataclass(frozen=True)
class Received:
    """The result; ``digest`` of the whole is None where every chunk was compared instead."""

    digest: Digest | None
    size: int


class NoRangesError(Exception):
    """The source cannot give a chunk alone."""


class Observer:
    """Observes a transfer's size and how far its hashed beginning reaches; may refuse it."""

    def begins(self, total: int | None, validator: str | None) -> None:
        """Check the size before the first byte is written. May raise TooLarge, DigestMismatch."""

    def wrote(self, end: int) -> None:
        """Called before bytes up to ``end`` are written. May raise TooLarge."""

    def reached(self, count: int) -> None:
        """Called when the first ``count`` bytes are written, without a gap."""


@dataclass
class _Part:
    start: int
    end: int | None  # None: to wherever the object ends.
    digest: Digest | None = None
    position: int = 0
    done: bool = False
    hasher: Any = field(default_factory=hashlib.sha256)

    @classmethod
    def of(cls, start: int, end: int | None, digest: Digest | None = None) -> _Part:
        return cls(start, end, digest, position=start)


@dataclass(frozen=True)
class _Block:
    """Bytes that are hashed next: ``count`` in the buffer, which belong at ``start``."""

    buffer: bytearray
    start: int
    count: int


class Transfer:
    """Downloads one object; `run` may be called again after ReplacedError, with a new file."""

    def __init__(
        self,
        source: Source,
        path: Path,
        *,
        observer: Observer,
        progress: Progress,
        retry: Retry,
        give_up_at: float,
        connections: int,
    ) -> None:
        self._source = source
        self._path = path
        self._observer = observer
        self._progress = progress
        self._retry = retry
        self._give_up_at = give_up_at
        self._pace = Pace(1, connections)
        self._connections = connections
        self._changed = threading.Condition()
        self._parts: list[_Part] = []
        self._next = 0
        self._gapless = 0
        self._gauge = Gauge()
        self._handed: deque[_Block] = deque()
        self._spare: list[bytearray] = []
        self._blocks = 0
        self._claimed = 0
        self._total: int | None = None
        self._validator: str | None = None
        self._ranged = True
        self._met = False
        self._failure: Exception | None = None

    def run(self, kept: Kept | None = None) -> Received:
        """Download all of it; return its digest and size.

        ``kept`` is the beginning that the file has already, which is hashed and not asked for.

        Raises:
            ReplacedError: the object was replaced meanwhile, or is not the one that was kept, or a
                source without ranges was cut.
            SourceUnavailable: the source failed too often or too long.
            Failure: what the source or the observer says.
        """
        begin = kept.count if kept is not None else 0
        self._validator = kept.validator if kept is not None else None
        if kept is None:
            self._path.unlink(missing_ok=True)
        self._parts = [_Part(0, begin, position=begin, done=True)] if begin else []
        self._progress.add(begin)
        self._next = self._gapless = len(self._parts)
        self._parts.append(_Part.of(begin, begin + PART_BYTES))
        with self._running():
            digest = self._hash_in_order()
        return Received(digest, self._claimed)

    def run_chunks(self, pinned: Pinned) -> Received:
        """Download the chunks that the file lacks; each is compared on its own.

        Raises:
            DigestMismatch: a chunk had the wrong bytes, several times.
            NoRangesError: the source gives the whole object only.
            ReplacedError, SourceUnavailable, Failure: as `run`.
        """
        whole = self._path.exists() and self._path.stat().st_size == pinned.size
        missing: list[_Part] = []
        for number, digest in enumerate(pinned.chunks):
            start = number * pinned.chunk_bytes
            end = min(start + pinned.chunk_bytes, pinned.size)
            if whole and digest_of_range(self._path, start, end - start) == digest:
                self._progress.add(end - start)
            else:
                missing.append(_Part.of(start, end, digest))
        self._parts = missing
        self._pace = Pace(len(os.sched_getaffinity(0)), self._connections)
        if missing:
            with self._running(), self._changed:
                while not all(part.done for part in missing):
                    self._wait()
        return Received(None, pinned.size)

    # ---- the caller's thread ----

    @contextlib.contextmanager
    def _running(self) -> Generator[None]:
        self._start_thread()
        try:
            yield
        finally:
            with self._changed:
                # Threads notice at their next block and end; nobody waits for them.
                self._failure = self._failure or TransientError("the transfer has ended")
                self._changed.notify_all()

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name="fetch", daemon=True)
        # It waits for the lock before it looks at the pace, and is known as silent by then.
        with self._changed:
            thread.start()
            self._gauge.begun(cast("int", thread.ident))

    def _hash_in_order(self) -> Digest:
        hasher = hashlib.sha256()
        own = bytearray(_BLOCK_BYTES)
        file = None
        try:
            while (block := self._next_block(own)) is not None:
                view = memoryview(block.buffer)[: block.count]
                if block.buffer is own:
                    file = file or self._path.open("rb", buffering=0)
                    file.seek(block.start)
                    filled = 0
                    while filled < block.count:
                        count = file.readinto(view[filled:])
                        if not count:
                            raise TransientError(f"{self._path.name} was cut while it was written")
                        filled += count
                hasher.update(view)
                if block.buffer is not own:
                    with self._changed:
                        self._spare.append(block.buffer)
        finally:
            if file is not None:
                file.close()
        return Digest(hasher.hexdigest())

    def _next_block(self, own: bytearray) -> _Block | None:
        """Wait for what is hashed next: a block handed over, or one to be read into ``own``.

        Returns None at the end.
        """
        with self._changed:
            while True:
                if self._handed:
                    return self._handed.popleft()
                # A block that was handed over may lie behind a part that is about to end.
                count = min(self._reach() - self._claimed, len(own))
                if count > 0:
                    self._claimed += count
                    return _Block(own, self._claimed - count, count)
                if self._all_there():
                    return None
                self._wait()

    def _reach(self) -> int:
        """Return up to where all bytes are written."""
        return self._parts[min(self._gapless, len(self._parts) - 1)].position

    def _all_there(self) -> bool:
        return self._gapless == len(self._parts) and not self._left()

    def _left(self) -> int:
        """Return how many bytes no part stands for yet."""
        if not self._ranged or self._total is None or self._parts[-1].digest is not None:
            return 0
        return max(0, self._total - (self._parts[-1].end or 0))

    def _wait(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._changed.wait(_POLL_SECONDS)
        if self._failure is not None:
            raise self._failure

    # ---- the other threads ----

    def _work(self) -> None:
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                while (part := self._take()) is not None:
                    self._load(part, descriptor)
            finally:
                os.close(descriptor)
        except Exception as error:  # noqa: BLE001 - it is raised in the caller's thread
            with self._changed:
                self._failure = self._failure or error
                self._changed.notify_all()

    def _take(self) -> _Part | None:
        with self._changed:
            while self._failure is None:
                if self._next == len(self._parts) and not self._carve():
                    return None
                part = self._parts[self._next]
                if part.digest is not None or part.start <= self._claimed + (
                    _PARTS_AHEAD * PART_BYTES
                ):
                    self._next += 1
                    return part
                self._changed.wait(_POLL_SECONDS)
        return None

    def _carve(self) -> bool:
        """Add a part behind the last one, if there are bytes left."""
        if not (left := self._left()):
            return False
        start = self._parts[-1].end or 0
        # One connection gains nothing from small parts, and each costs it a round trip.
        alone = self._pace.settled and self._gauge.connections == 1
        size = PART_BYTES * (_PARTS_ALONE if alone else 1)
        self._parts.append(_Part.of(start, start + min(size, left)))
        return True

    def _load(self, part: _Part, descriptor: int) -> None:
        patience = Patience(self._retry, self._give_up_at)
        mismatches = 0
        while not part.done:
            before = part.position
            try:
                self._receive(part, descriptor, patience.seconds_left)
            except ReplacedError:
                raise
            except TransientError as error:
                if self._met and not self._ranged:
                    raise ReplacedError(error.message) from error
                patience.wait(error, progressed=part.position > before)
                continue
            if part.digest is not None and part.hasher.hexdigest() != part.digest.hex:
                mismatches += 1
                self._progress.add(part.start - part.position)
                if mismatches == _CHUNK_ATTEMPTS:
                    raise DigestMismatch(
                        f"bytes {part.start} to {part.position} of {self._source.description} have"
                        f" the digest sha256:{part.hasher.hexdigest()}, expected {part.digest}:"
                        " push the package again",
                        expected=str(part.digest),
                        actual=f"sha256:{part.hasher.hexdigest()}",
                        size=part.position - part.start,
                    )
                part.position, part.hasher = part.start, hashlib.sha256()
                continue
            with self._changed:
                part.done = True
                self._advance()
                self._changed.notify_all()

    def _advance(self) -> None:
        while self._gapless < len(self._parts) and self._parts[self._gapless].done:
            self._gapless += 1
        self._observer.reached(self._reach())

    def _receive(self, part: _Part, descriptor: int, seconds_left: float) -> None:
        end = part.end if part.end is not None else part.position + PART_BYTES
        wanted = Range(part.position, end, self._validator)
        with self._source.open(wanted, seconds_left) as answer:
            self._meet(answer, part, descriptor)
            marked, opened = part.position, time.perf_counter()
            block = bytearray(_BLOCK_BYTES)
            while part.end is None or part.position < part.end:
                # While the rate is measured, blocks are small enough for a measurement.
                most = _BLOCK_BYTES if self._pace.settled else _LOOKED_BLOCK_BYTES
                limit = min(most, max(_FIRST_BLOCK_BYTES, part.position - part.start))
                left = limit if part.end is None else part.end - part.position
                count = answer.readinto(memoryview(block)[: min(limit, left)])
                if not count:
                    break
                block = self._write(part, descriptor, block, count)
                self._look(opened, count)
                if part.position - marked >= PART_BYTES:
                    self._mark(descriptor, marked, part.position - marked)
                    marked = part.position
            self._mark(descriptor, marked, part.position - marked)
            self._look(opened, ended=True)
            if part.end is None:
                return
            if part.position < part.end:
                raise TransientError(
                    f"{self._source.description} was cut off after {part.position} of the"
                    f" {self._total} bytes announced"
                )

    def _mark(self, descriptor: int, start: int, count: int) -> None:
        """Take in that a stretch of bytes has come, and send it on its way to the disk."""
        start_writeback(descriptor, start, count)
        with self._changed:
            self._advance()

    def _look(self, opened: float, count: int = 0, *, ended: bool = False) -> None:
        """Take in bytes of an answer that was ``opened`` then; start threads if they may pay."""
        if self._pace.settled or not self._ranged:
            return
        with self._changed:
            me, now = threading.get_ident(), time.perf_counter()
            rate = self._gauge.took(me, count, opened, now, ended=ended)
            if rate is None or self._pace.settled:
                return
            waiting = len(self._parts) - self._next + -(-self._left() // PART_BYTES)
            if not waiting:
                return
            wanted = self._pace.judge(rate)
            self._gauge.restart(now)
            try:
                for _ in range(min(wanted - self._gauge.connections, waiting)):
                    self._start_thread()
            except RuntimeError as error:
                # No further thread can be started; those that run continue.
                logger.warning("the fetch has %d connections: %s", self._gauge.connections, error)
                self._pace.settled = True

    def _meet(self, answer: Answer, part: _Part, descriptor: int) -> None:
        """Take in what the first answer says of the object, and hold the others to it."""
        with self._changed:
            if self._met:
                if (answer.total, answer.ranged) != (self._total, self._ranged) or (
                    answer.validator != self._validator
                ):
                    raise ReplacedError(
                        f"{self._source.description} was replaced while it was read"
                    )
                return
            if self._validator is not None and answer.validator != self._validator:
                raise ReplacedError(f"{self._source.description} is not what it was before")
            self._observer.begins(answer.total, answer.validator)
            self._met = True
            self._total, self._validator = answer.total, answer.validator
            self._ranged = answer.ranged
            chunks = part.digest is not None
            if chunks and not answer.ranged:
                raise NoRangesError(f"{self._source.description} gives no ranges")
            if self._total is not None:
                os.ftruncate(descriptor, self._total)
            if not answer.ranged:
                part.end = self._total
            elif not chunks and self._total is not None:
                part.end = min(part.end or self._total, self._total)

    def _write(self, part: _Part, descriptor: int, block: bytearray, count: int) -> bytearray:
        """Write a block at its place; hand it over if it is hashed next. Returns the next block."""
        end = part.position + count
        self._observer.wrote(end)
        if self._retry.clock() > self._give_up_at:
            raise SourceUnavailable(
                f"the transfer of {self._source.description} was not done by the deadline:"
                f" {self._progress.describe()} came"
            )
        view = memoryview(block)[:count]
        if part.digest is not None:
            part.hasher.update(view)
        position = part.position
        try:
            while view:
                written = os.pwrite(descriptor, view, position)
                view, position = view[written:], position + written
        except OSError as error:
            raise space_error(error, self._path.parent) or error from error
        with self._changed:
            if self._failure is not None:
                raise self._failure
            self._progress.add(count)
            self._progress.brought += count
            self._changed.notify_all()
            following = part.digest is None and part.position == self._claimed
            part.position = position
            if not following or (spare := self._spare_block()) is None:
                return block
            self._handed.append(_Block(block, self._claimed, count))
            self._claimed += count
            return spare

    def _spare_block(self) -> bytearray | None:
        """Return a block to receive into, the one used last, None where all wait to be hashed."""
        if self._spare:
            return self._spare.pop()
        if self._blocks == _SPARE_BLOCKS:
            return None
        self._blocks += 1
        return bytearray(_BLOCK_BYTES)

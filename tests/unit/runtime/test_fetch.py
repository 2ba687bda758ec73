"""The retry policy, the transfer and the cache, against a scripted source; nobody waits."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime_kit.process import digest_of, seed

from slipway_runtime import errors
from slipway_runtime.artifact import gauge, journal, pace, transfer
from slipway_runtime.artifact.cache import Cache
from slipway_runtime.artifact.digest import Digest
from slipway_runtime.artifact.fetch import fetch
from slipway_runtime.artifact.retry import Retry
from slipway_runtime.artifact.sources import Range, ReplacedError, TransientError
from slipway_runtime.artifact.stored import find

CONTENT = b"0123456789" * 1000
DIGEST = Digest.parse(digest_of(CONTENT))


class Clock:
    """A clock that only sleeping and downloading move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@dataclass
class Piece:
    """An answer: data, and what happens after it."""

    data: bytes
    total: int | None = len(CONTENT)
    validator: str | None = '"e"'
    ranged: bool = True
    error: Exception | None = None
    on_read: Callable[[], object] = lambda: None
    step: int = 2**30

    def readinto(self, view: memoryview) -> int:
        self.on_read()
        step = min(len(view), self.step)
        data, self.data = self.data[:step], self.data[step:]
        if not data and self.error is not None:
            raise self.error
        view[: len(data)] = data
        return len(data)


Attempt = Callable[[Range], Piece]


class Scripted:
    """A source whose requests are answered by one thing after the other."""

    description = "test://source"

    def __init__(self, *attempts: Attempt) -> None:
        self._attempts = attempts
        self._lock = threading.Lock()
        self.asked: list[Range] = []

    @property
    def count(self) -> int:
        return len(self.asked)

    def beside(self, path: str) -> Scripted:
        raise AssertionError(path)

    @contextmanager
    def open(self, wanted: Range, seconds_left: float) -> Iterator[Piece]:
        with self._lock:
            self.asked.append(wanted)
            attempt = self._attempts[min(self.count, len(self._attempts)) - 1]
        yield attempt(wanted)


def whole(wanted: Range) -> Piece:
    return Piece(CONTENT[wanted.start : wanted.end])


def all_at_once(_wanted: Range) -> Piece:
    """As a server that knows no ranges answers."""
    return Piece(CONTENT, ranged=False)


def cut(wanted: Range) -> Piece:
    """100 bytes, and then no more."""
    piece = whole(wanted)
    piece.data = piece.data[:100]
    piece.error = TransientError("test://source was cut")
    return piece


def dead(_wanted: Range) -> Piece:
    raise TransientError("test://source is down")


def fails_with(error: Exception) -> Attempt:
    def attempt(_wanted: Range) -> Piece:
        raise error

    return attempt


def run(cache: Path, source: Scripted, clock: Clock | None = None, **options: Any) -> Path:
    clock = clock or Clock()
    retry = Retry(
        attempts=options.pop("attempts", 4),
        deadline=options.pop("deadline", 1000.0),
        clock=clock,
        sleep=clock.sleep,
        jitter=lambda low, high: high,
    )
    return fetch(
        source,
        DIGEST,
        Cache(cache),
        max_bytes=options.pop("max_bytes", None),
        retry=retry,
        connections=options.pop("connections", 8),
    )


def test_the_artifact_lands_in_the_cache(tmp_path: Path) -> None:
    assert run(tmp_path, Scripted(whole)).read_bytes() == CONTENT


def test_a_second_fetch_asks_no_source(tmp_path: Path) -> None:
    run(tmp_path, Scripted(whole))
    source = Scripted(fails_with(AssertionError("asked")))
    assert run(tmp_path, source).read_bytes() == CONTENT
    assert source.count == 0


def test_a_cached_file_that_does_not_verify_is_fetched_again(tmp_path: Path) -> None:
    seed(tmp_path, b"changed on disk", str(DIGEST))
    source = Scripted(whole)
    assert run(tmp_path, source).read_bytes() == CONTENT
    assert source.count == 1


def test_a_cached_link_is_not_followed(tmp_path: Path) -> None:
    """What it leads to could be changed after it was verified."""
    path = run(tmp_path, Scripted(whole))
    elsewhere = path.rename(tmp_path / "elsewhere")
    path.symlink_to(elsewhere)
    with pytest.raises(errors.DigestMismatch, match="is a link"):
        find(Cache(tmp_path), DIGEST)
    again = Scripted(whole)
    assert not run(tmp_path, again).is_symlink()
    assert again.asked


def test_a_cut_is_gone_on_with_from_where_it_was(tmp_path: Path) -> None:
    clock = Clock()
    source = Scripted(cut, cut, dead, dead, whole)
    assert run(tmp_path, source, clock).read_bytes() == CONTENT
    assert [(wanted.start, wanted.validator) for wanted in source.asked] == [
        (0, None),
        *[(100, '"e"')],
        *[(200, '"e"')] * 3,
    ]
    # The count begins anew with every byte that came.
    assert clock.pauses == [0.5, 0.5, 1.0, 2.0]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_without_ranges_a_cut_is_tried_again_from_the_start(tmp_path: Path) -> None:
    def cut_off(_wanted: Range) -> Piece:
        return Piece(CONTENT[:100], ranged=False, error=TransientError("cut"))

    clock = Clock()
    source = Scripted(cut_off, cut_off, all_at_once)
    assert run(tmp_path, source, clock).read_bytes() == CONTENT
    assert [wanted.start for wanted in source.asked] == [0, 0, 0]
    assert clock.pauses == [0.5, 1.0]


def test_a_source_that_says_no_size_is_read_to_its_end(tmp_path: Path) -> None:
    source = Scripted(lambda _wanted: Piece(CONTENT, total=None, validator=None, ranged=False))
    assert run(tmp_path, source).read_bytes() == CONTENT


def test_an_object_that_is_replaced_meanwhile_is_fetched_anew(tmp_path: Path) -> None:
    source = Scripted(lambda w: replace(cut(w), validator='"before"'), whole, whole)
    assert run(tmp_path, source).read_bytes() == CONTENT
    assert [(wanted.start, wanted.validator) for wanted in source.asked] == [
        (0, None),
        (100, '"before"'),
        (0, None),
    ]


def test_pauses_are_jittered_and_bounded() -> None:
    drawn: list[tuple[float, float]] = []
    retry = Retry(jitter=lambda low, high: drawn.append((low, high)) or low)
    for attempt in (1, 2, 30):
        retry.pause_after(attempt)
    assert drawn == [(0.25, 0.5), (0.5, 1.0), (7.5, 15.0)]


def test_the_source_is_unavailable_after_so_many_attempts(tmp_path: Path) -> None:
    source = Scripted(dead)
    with pytest.raises(errors.SourceUnavailable, match=r"is down.*after 4 attempts"):
        run(tmp_path, source)
    assert source.count == 4
    assert not Cache(tmp_path).entry(DIGEST).exists()


def test_the_source_is_unavailable_when_the_next_pause_would_pass_the_deadline(
    tmp_path: Path,
) -> None:
    source = Scripted(dead)
    with pytest.raises(errors.SourceUnavailable):
        run(tmp_path, source, deadline=1.6, attempts=20)
    assert source.count == 3


@pytest.mark.parametrize(
    "kind",
    [errors.ArtifactNotFound, errors.AccessDenied, errors.SourceUnavailable, errors.TooLarge],
)
def test_what_another_attempt_cannot_mend_is_not_tried_again(
    tmp_path: Path, kind: type[errors.Failure]
) -> None:
    source = Scripted(fails_with(kind("no")))
    with pytest.raises(kind):
        run(tmp_path, source)
    assert source.count == 1


def test_other_bytes_are_a_mismatch_with_both_digests_and_never_cached(tmp_path: Path) -> None:
    source = Scripted(lambda _wanted: Piece(b"other", total=5))
    with pytest.raises(errors.DigestMismatch) as caught:
        run(tmp_path, source)
    assert caught.value.details == {
        "expected": str(DIGEST),
        "actual": digest_of(b"other"),
        "size": 5,
    }
    assert "test://source holds 5 bytes" in caught.value.message
    assert source.count == 1
    assert list((tmp_path / "sha256").iterdir()) == []
    assert list((tmp_path / "tmp").iterdir()) == []


def test_an_announced_size_above_the_limit_stops_before_the_first_byte(tmp_path: Path) -> None:
    def never() -> None:
        raise AssertionError

    source = Scripted(lambda w: replace(whole(w), on_read=never))
    with pytest.raises(errors.TooLarge, match="10000 bytes, above the limit of 9999"):
        run(tmp_path, source, max_bytes=9999)


def test_a_body_that_grows_past_the_limit_unannounced_stops(tmp_path: Path) -> None:
    source = Scripted(lambda _wanted: Piece(CONTENT, total=None, ranged=False))
    with pytest.raises(errors.TooLarge, match="at least 10000 bytes, above the limit of 9999"):
        run(tmp_path, source, max_bytes=9999)


def test_exactly_the_limit_is_allowed(tmp_path: Path) -> None:
    assert run(tmp_path, Scripted(whole), max_bytes=len(CONTENT)).exists()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_volume_is_too_large(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> int:
        raise OSError(code, "no space")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(errors.TooLarge, match="cache volume"):
        run(tmp_path, Scripted(whole))


@pytest.mark.parametrize("step", ["mkdir", "commit"])
def test_a_volume_that_is_full_beside_the_bytes_is_too_large(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object, **_more: object) -> Path:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(*{"mkdir": (Path, "mkdir"), "commit": (Cache, "commit")}[step], full)
    with pytest.raises(errors.TooLarge, match="cache volume"):
        run(tmp_path, Scripted(whole))


@pytest.mark.usefixtures("small_parts")
def test_what_lies_there_needs_no_room_though_the_journal_knows_of_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_EVERY_BYTES", 4000)
    with pytest.raises(errors.SourceUnavailable):
        run(tmp_path, Scripted(until(7000)), connections=1)
    usage = shutil.disk_usage(tmp_path)._replace(free=4000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    assert run(tmp_path, Scripted(whole)).read_bytes() == CONTENT


def test_a_transfer_that_trickles_past_the_deadline_stops_and_says_how_far_it_came(
    tmp_path: Path,
) -> None:
    clock = Clock()

    def tick() -> None:
        clock.now += 10

    def attempt(wanted: Range) -> Piece:
        return replace(whole(wanted), step=100, on_read=tick)

    with pytest.raises(errors.SourceUnavailable, match=r"not done by the deadline.*had come") as e:
        run(tmp_path, Scripted(attempt), clock, deadline=100)
    assert (e.value.details["fetched_bytes"], e.value.details["total_bytes"]) == (1000, 10000)


def test_progress_is_logged_at_a_bounded_rate(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    caplog.set_level(logging.INFO)

    def slow(wanted: Range) -> Piece:
        clock.now += 0.2
        return replace(whole(wanted), data=CONTENT[wanted.start : wanted.start + 100],
                       error=TransientError("cut"))  # fmt: skip

    run(tmp_path, Scripted(slow), clock)
    progress = [record for record in caplog.records if "%)" in record.getMessage()]
    assert 8 <= len(progress) <= 20
    assert "of 0 MB (" in progress[0].getMessage()
    told = [vars(record) for record in progress]
    assert {record["total_bytes"] for record in told} == {len(CONTENT)}
    assert [record["fetched_bytes"] for record in told] == sorted(
        record["fetched_bytes"] for record in told
    )


# ---- in parallel ----


def hastily(patch: pytest.MonkeyPatch) -> None:
    """Take all connections as soon as one was looked at."""

    class Hasty(pace.Pace):
        def judge(self, rate: float) -> int:
            self.settled = True
            return self._most

    patch.setattr(transfer, "Pace", Hasty)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(transfer, "PART_BYTES", 700)
    monkeypatch.setattr(transfer, "_PARTS_ALONE", 1)
    hastily(monkeypatch)
    return 700


def test_ranges_come_in_parallel_and_are_hashed_in_order(tmp_path: Path, small_parts: int) -> None:
    together = threading.Barrier(3, timeout=10)

    def attempt(wanted: Range) -> Piece:
        # The first request tells the size; then three must be under way at once.
        if 0 < wanted.start <= 3 * small_parts:
            together.wait()
        return whole(wanted)

    source = Scripted(attempt)
    assert run(tmp_path, source, connections=3).read_bytes() == CONTENT
    starts = sorted(wanted.start for wanted in source.asked)
    assert starts == list(range(0, len(CONTENT), small_parts))
    assert {wanted.validator for wanted in source.asked if wanted.start} == {'"e"'}


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_the_file_and_its_hash_are_whole_however_the_bytes_come(data: st.DataObject) -> None:
    draw, lock = data.draw, threading.Lock()
    connections = draw(st.integers(1, 6), label="connections")
    steps = draw(st.lists(st.integers(1, 900), min_size=1, max_size=8), label="steps")
    cuts = draw(st.sets(st.integers(0, 30), max_size=4), label="requests that are cut")
    number = itertools.count()

    def attempt(wanted: Range) -> Piece:
        with lock:
            mine = next(number)
        piece = replace(whole(wanted), step=steps[mine % len(steps)])
        # Threads take turns where a real source would keep them waiting.
        piece.on_read = lambda: time.sleep(0)
        return replace(piece, data=piece.data[: len(piece.data) // 2],
                       error=TransientError("cut")) if mine in cuts else piece  # fmt: skip

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(transfer, "PART_BYTES", draw(st.integers(300, 3000), label="part"))
        patch.setattr(transfer, "_SPARE_BLOCKS", draw(st.integers(0, 3), label="spare blocks"))
        hastily(patch)
        path = run(Path(folder), Scripted(attempt), connections=connections)
        assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("hashers", "rates", "expected"),
    [
        (1, [90, 180, 340], [2, 4, 8]),  # each connection brings as much as the one before
        (1, [90, 90, 180, 190, 340], [2, 2, 4, 4, 8]),  # and begins slowly
        (1, [90, 180, *[190] * 6], [2, 4, *[4] * 6]),  # a link that four fill
        (1, [300, *[310] * 6], [2, *[2] * 6]),  # a machine that two keep busy
        (1, [300, 90, 100, 80, 90, 90, 95], [2] * 7),
        (1, [0, 1, 2, 4], [2, 4, 8]),
        (1, [900], [1]),  # loopback, or a link that one connection fills
        (1, [200, 600], [2, 2]),  # fast enough with two
        (2, [900], [2]),  # chunks, which two cores hash
        (64, [900], [8]),
    ],
)
def test_connections_are_doubled_for_as_long_as_that_pays(
    hashers: int, rates: list[int], expected: list[int]
) -> None:
    found = pace.Pace(hashers, 8)
    judged = [found.judge(rate << 20) for rate in rates if not found.settled]
    assert (judged, found.settled) == (expected, True)


def test_the_connections_of_a_transfer_grow_while_they_bring_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "PART_BYTES", 50)
    monkeypatch.setattr(transfer, "_FIRST_BLOCK_BYTES", 10)
    monkeypatch.setattr(gauge, "_SECONDS", 0.02)
    readers: set[int] = set()

    def read() -> None:
        readers.add(threading.get_ident())
        time.sleep(0.002)  # for each connection, however many there are

    source = Scripted(lambda wanted: replace(whole(wanted), on_read=read))
    assert run(tmp_path, source, connections=4).read_bytes() == CONTENT
    assert len(readers) == 4


def test_where_the_system_gives_no_more_threads_those_that_run_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "PART_BYTES", 700)
    hastily(monkeypatch)
    start, started = threading.Thread.start, itertools.count()

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "fetch" and next(started) == 2:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert run(tmp_path, Scripted(whole), connections=8).read_bytes() == CONTENT


def test_beside_a_fast_source_one_connection_asks_for_large_ranges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "PART_BYTES", 700)
    monkeypatch.setattr(pace, "_FAST", 0)
    source = Scripted(whole)
    assert run(tmp_path, source).read_bytes() == CONTENT
    assert [(wanted.start, wanted.end) for wanted in source.asked] == [
        (0, 700), (700, 6300), (6300, 10000),
    ]  # fmt: skip


@pytest.mark.usefixtures("small_parts")
def test_each_range_is_gone_on_with_alone(tmp_path: Path) -> None:
    broken: set[int] = set()
    lock = threading.Lock()

    def attempt(wanted: Range) -> Piece:
        with lock:
            first = wanted.start not in broken
            broken.add(wanted.start)
        return cut(wanted) if first and wanted.start % 700 == 0 else whole(wanted)

    source = Scripted(attempt)
    assert run(tmp_path, source).read_bytes() == CONTENT
    assert source.count == 2 * 15


@pytest.mark.usefixtures("small_parts")
def test_one_range_that_fails_for_good_ends_all(tmp_path: Path) -> None:
    def attempt(wanted: Range) -> Piece:
        if wanted.start == 2100:
            raise errors.AccessDenied("no longer")
        return whole(wanted)

    with pytest.raises(errors.AccessDenied):
        run(tmp_path, Scripted(attempt))


@pytest.mark.usefixtures("small_parts")
def test_threads_do_not_run_far_ahead_of_the_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_PARTS_AHEAD", 2)
    hashed = threading.Event()
    seen: list[int] = []

    def attempt(wanted: Range) -> Piece:
        seen.append(wanted.start)
        if wanted.start == 0:
            return replace(whole(wanted), on_read=lambda: hashed.wait(0.2))
        return whole(wanted)

    run(tmp_path, Scripted(attempt))
    assert max(seen[:4]) <= 3 * 700


# ---- a fetch that goes on where an earlier one ended ----


@pytest.fixture
def eager_journal(monkeypatch: pytest.MonkeyPatch, small_parts: int) -> None:
    monkeypatch.setattr(journal, "_EVERY_BYTES", 1)


def until(end: int) -> Attempt:
    """Gives what lies before ``end``, and is down behind it."""
    return lambda wanted: dead(wanted) if wanted.start >= end else whole(wanted)


@pytest.mark.usefixtures("eager_journal")
def test_a_later_fetch_goes_on_where_an_earlier_one_gave_up(tmp_path: Path) -> None:
    with pytest.raises(errors.SourceUnavailable):
        run(tmp_path, Scripted(until(7000)), connections=1)
    source = Scripted(whole)
    assert run(tmp_path, source).read_bytes() == CONTENT
    assert {wanted.start for wanted in source.asked} == {7000, 7700, 8400, 9100, 9800}
    assert {wanted.validator for wanted in source.asked} == {'"e"'}
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.usefixtures("eager_journal")
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda file, note: file.write_bytes(b"x" * len(CONTENT)), id="other bytes"),
        pytest.param(lambda file, note: file.write_bytes(b"short"), id="other size"),
        pytest.param(lambda file, note: file.unlink(), id="file gone"),
        pytest.param(lambda file, note: note.write_text("{"), id="journal torn"),
        pytest.param(lambda file, note: note.write_text("[]"), id="journal of another form"),
        pytest.param(lambda file, note: note.write_text(note.read_text().replace("e", "f")),
                     id="another object"),
    ],
)  # fmt: skip
def test_what_is_left_and_of_no_use_is_fetched_anew(
    tmp_path: Path, damage: Callable[[Path, Path], object]
) -> None:
    with pytest.raises(errors.SourceUnavailable):
        run(tmp_path, Scripted(until(7000)), connections=1)
    left = tmp_path / "tmp" / DIGEST.hex
    damage(left / "content/model.onnx", left / "progress.json")
    assert run(tmp_path, Scripted(checked)).read_bytes() == CONTENT


def checked(wanted: Range) -> Piece:
    """As a server that honours If-Match."""
    if wanted.validator not in (None, '"e"'):
        raise ReplacedError("replaced")
    return whole(wanted)


def test_what_is_left_after_another_failure_is_removed(tmp_path: Path) -> None:
    with pytest.raises(errors.TooLarge):
        run(tmp_path, Scripted(fails_with(errors.TooLarge("no"))))
    assert list((tmp_path / "tmp").iterdir()) == []

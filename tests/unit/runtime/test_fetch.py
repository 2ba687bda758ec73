"""The retry policy, the sink and the cache, against a scripted source; nobody waits."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runtime_kit.process import digest_of, seed

from slipway_runtime import errors
from slipway_runtime.artifact.cache import Cache
from slipway_runtime.artifact.digest import Digest
from slipway_runtime.artifact.fetch import HashingSink, Retry, fetch
from slipway_runtime.artifact.sources import Sink, TransientError

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


class Scripted:
    """A source whose attempts do one thing after the other."""

    description = "test://source"

    def __init__(self, *attempts: Callable[[Sink], None]) -> None:
        self._attempts = attempts
        self.count = 0

    def download(self, sink: Sink, seconds_left: float) -> None:
        self.count += 1
        self._attempts[min(self.count, len(self._attempts)) - 1](sink)


def whole(sink: Sink) -> None:
    sink.expect(len(CONTENT))
    for start in range(0, len(CONTENT), 999):
        sink.write(CONTENT[start : start + 999])


def cut(sink: Sink) -> None:
    sink.write(CONTENT[:100])
    raise TransientError("test://source was cut")


def fails_with(error: Exception) -> Callable[[Sink], None]:
    def attempt(sink: Sink) -> None:
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
        source, DIGEST, Cache(cache), max_bytes=options.pop("max_bytes", None), retry=retry
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


def test_a_cut_is_tried_again_from_the_start_with_growing_pauses(tmp_path: Path) -> None:
    clock = Clock()
    source = Scripted(cut, cut, cut, whole)
    assert run(tmp_path, source, clock).read_bytes() == CONTENT
    assert clock.pauses == [0.5, 1.0, 2.0]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_pauses_are_jittered_and_bounded() -> None:
    drawn: list[tuple[float, float]] = []
    retry = Retry(jitter=lambda low, high: drawn.append((low, high)) or low)
    for attempt in (1, 2, 30):
        retry.pause_after(attempt)
    assert drawn == [(0.25, 0.5), (0.5, 1.0), (7.5, 15.0)]


def test_the_source_is_unavailable_after_so_many_attempts(tmp_path: Path) -> None:
    source = Scripted(cut)
    with pytest.raises(errors.SourceUnavailable, match=r"was cut.*after 4 attempts"):
        run(tmp_path, source)
    assert source.count == 4
    assert not Cache(tmp_path).entry(DIGEST).exists()


def test_the_source_is_unavailable_when_the_next_pause_would_pass_the_deadline(
    tmp_path: Path,
) -> None:
    source = Scripted(cut)
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
    source = Scripted(lambda sink: void(sink.write(b"other")))
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


def void(_value: object) -> None:
    pass


def test_an_announced_size_above_the_limit_stops_before_the_first_byte(tmp_path: Path) -> None:
    def attempt(sink: Sink) -> None:
        sink.expect(len(CONTENT))
        raise AssertionError

    with pytest.raises(errors.TooLarge, match="10000 bytes, above the limit of 9999"):
        run(tmp_path, Scripted(attempt), max_bytes=9999)


def test_a_body_that_grows_past_the_limit_unannounced_stops(tmp_path: Path) -> None:
    def attempt(sink: Sink) -> None:
        for _ in range(1000):
            sink.write(b"x" * 1000)

    with pytest.raises(errors.TooLarge, match="at least 10000 bytes, above the limit of 9999"):
        run(tmp_path, Scripted(attempt), max_bytes=9999)


def test_exactly_the_limit_is_allowed(tmp_path: Path) -> None:
    assert run(tmp_path, Scripted(whole), max_bytes=len(CONTENT)).exists()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_volume_is_too_large(tmp_path: Path, code: int) -> None:
    with pytest.raises(errors.TooLarge, match="cache volume"):  # noqa: PT012, SIM117
        with HashingSink(
            tmp_path / "file", Cache(tmp_path), where="x", max_bytes=None, give_up_at=1e12
        ) as sink:
            sink._file.close()
            sink._file = FullFile(code)  # type: ignore[assignment]
            sink.write(b"x")


class FullFile:
    def __init__(self, code: int) -> None:
        self._code = code

    def write(self, data: object) -> int:
        raise OSError(self._code, "no space")

    def close(self) -> None:
        pass


def test_a_real_full_device_is_too_large(tmp_path: Path) -> None:
    with pytest.raises(errors.TooLarge):  # noqa: SIM117
        with HashingSink(
            Path("/dev/full"), Cache(tmp_path), where="x", max_bytes=None, give_up_at=1e12
        ) as sink:
            sink.write(b"x" * 10)


def test_a_transfer_that_trickles_past_the_deadline_stops(tmp_path: Path) -> None:
    clock = Clock()

    def attempt(sink: Sink) -> None:
        while True:
            clock.now += 10
            sink.write(b"x")

    with pytest.raises(errors.SourceUnavailable, match="not done by the deadline"):
        run(tmp_path, Scripted(attempt), clock, deadline=100)


def test_progress_is_logged_at_a_bounded_rate(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    caplog.set_level(logging.INFO)

    def attempt(sink: Sink) -> None:
        sink.expect(len(CONTENT))
        for start in range(0, len(CONTENT), 100):
            clock.now += 0.2
            sink.write(CONTENT[start : start + 100])

    run(tmp_path, Scripted(attempt), clock)
    progress = [record.getMessage() for record in caplog.records if "%)" in record.getMessage()]
    assert 3 <= len(progress) <= 4
    assert "of 0 MB (" in progress[0]

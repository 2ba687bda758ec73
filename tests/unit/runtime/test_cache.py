from __future__ import annotations

import fcntl
import os
import shutil
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from runtime_kit.process import digest_of

from slipway_runtime.artifact.cache import Cache
from slipway_runtime.artifact.digest import Digest
from slipway_runtime.errors import InvalidArguments, TooLarge

CONTENT = b"content"
DIGEST = Digest.parse(digest_of(CONTENT))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    cache = Cache(tmp_path / "cache")
    cache.prepare()
    return cache


def put(cache: Cache, content: bytes = CONTENT) -> Path:
    with cache.temporary() as directory:
        (directory / "model.onnx").write_bytes(content)
        return cache.commit(directory, DIGEST) / "model.onnx"


def temporaries(cache: Cache) -> list[Path]:
    return list((cache.root / "tmp").iterdir())


def test_an_entry_lies_under_its_digest_and_anybody_may_read_it(cache: Cache) -> None:
    path = put(cache)
    assert path == cache.root / "sha256" / DIGEST.hex / "model.onnx"
    assert path.read_bytes() == CONTENT
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert stat.S_IMODE(path.parent.stat().st_mode) & 0o555 == 0o555
    assert temporaries(cache) == []


def test_nothing_is_visible_before_the_commit(cache: Cache) -> None:
    with cache.temporary() as directory:
        (directory / "model.onnx").write_bytes(CONTENT)
        assert not cache.entry(DIGEST).exists()


def test_a_writer_that_fails_leaves_nothing(cache: Cache) -> None:
    with pytest.raises(RuntimeError), cache.temporary() as directory:  # noqa: PT012
        (directory / "model.onnx").write_bytes(CONTENT)
        raise RuntimeError
    assert temporaries(cache) == []
    assert not cache.entry(DIGEST).exists()


def test_a_commit_replaces_what_another_has_put_there(cache: Cache) -> None:
    put(cache, b"earlier")
    assert put(cache).read_bytes() == CONTENT
    assert temporaries(cache) == []


@pytest.mark.parametrize("swaps", [True, False])
def test_writers_of_one_entry_do_not_disturb_each_other(
    cache: Cache, swaps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not swaps:  # as on a file system that cannot
        monkeypatch.setattr("slipway_runtime.artifact.cache._exchange", lambda *_: False)
    put(cache)
    done = threading.Event()

    def look() -> int:
        missed = 0
        while not done.is_set():
            missed += not cache.entry(DIGEST).exists()
        return missed

    with ThreadPoolExecutor(5) as pool:
        looking = pool.submit(look)
        writers = [pool.submit(lambda: [put(cache) for _ in range(30)]) for _ in range(3)]
        for writer in writers:
            writer.result()
        done.set()
        missed = looking.result()
    assert (cache.entry(DIGEST) / "model.onnx").read_bytes() == CONTENT
    assert temporaries(cache) == []
    assert not (swaps and missed)


def test_a_workspace_that_is_being_removed_is_nobody_elses(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    others, real = list[str](), shutil.rmtree

    def rmtree(path: Path, **more: Any) -> None:
        if path.name == DIGEST.hex:
            with cache.workspace(DIGEST) as other:
                others.append(other.name)
        real(path, **more)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    with cache.workspace(DIGEST) as path:
        assert path.name == DIGEST.hex
    assert len(others) == 1
    assert others[0] != DIGEST.hex


def test_a_lock_on_a_directory_that_is_no_longer_there_is_none(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another writer has removed it before the lock, and a third has made it anew."""
    replaced, real = list[Path](), fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if not replaced:
            replaced.append(path)
            path.rmdir()
            path.mkdir()
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with cache.workspace(DIGEST) as path:
        descriptor = os.open(path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            real(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
    assert [path.name for path in replaced] == [DIGEST.hex]


def test_files_and_directories_are_on_disk_before_the_name_is(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append(f"{target.name} {'before' if not cache.entry(DIGEST).exists() else 'after'}")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with cache.temporary() as directory:
        (directory / "model.onnx").write_bytes(CONTENT)
        name = directory.name
        cache.commit(directory, DIGEST)
    assert synced == ["model.onnx before", f"{name} before", "sha256 after"]


def test_what_an_interrupted_writer_has_left_is_swept(cache: Cache) -> None:
    left = cache.root / "tmp" / "left"
    left.mkdir()
    (left / "model.onnx").write_bytes(b"half")
    cache.prepare()
    assert temporaries(cache) == []


def test_what_a_living_process_writes_is_not_swept(cache: Cache) -> None:
    code = (
        "import sys; from pathlib import Path; from slipway_runtime.artifact.cache import Cache\n"
        "with Cache(Path(sys.argv[1])).temporary():\n"
        "    print('holding', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(cache.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == b"holding\n"
        cache.prepare()
        assert len(temporaries(cache)) == 1
        other.kill()
    cache.prepare()
    assert temporaries(cache) == []


def test_more_than_the_volume_has_free_is_too_large(cache: Cache) -> None:
    cache.require_space(1)
    with pytest.raises(TooLarge, match="bytes free"):
        cache.require_space(2**62)


def test_a_cache_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidArguments, match="SLIPWAY_CACHE_DIR"):
        Cache(tmp_path / "file" / "cache").prepare()

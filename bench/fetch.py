"""How fast an artifact gets into the cache: `fetch` beside a plain download and SHA-256 alone.

    make bench-fetch                     # 512 MiB, five rounds, an S3 server of this machine
    python bench/fetch.py --mebibytes 64 --rounds 3

Every way writes to the same disk and syncs. The rounds are interleaved: each way once a round, so
that what else the machine does hits all of them; the table shows medians. The server runs on the
same cores as the clients, so CPU time decides here; the ways that hash pay for it.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from runtime_kit import packages

from slipway_dev.s3 import REGION, S3Server
from slipway_runtime.artifact.cache import Cache
from slipway_runtime.artifact.digest import Digest
from slipway_runtime.artifact.fetch import fetch
from slipway_runtime.artifact.retry import Retry
from slipway_runtime.artifact.sources import open_source
from slipway_runtime.settings import FetchSettings

ROOT = Path(__file__).resolve().parents[1]
MEBIBYTE = 1 << 20
CONNECTIONS = 8


def sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


class Ways:
    """The ways to get one object, each a function of an empty folder."""

    def __init__(self, server: S3Server, content: bytes, folder: Path) -> None:
        keys = server.root
        os.environ |= {"AWS_ACCESS_KEY_ID": keys.access, "AWS_SECRET_ACCESS_KEY": keys.secret}
        os.environ["NO_PROXY"] = "*"
        self._client: Any = server.root_client()
        self._signer: Any = boto3.client(
            "s3",
            endpoint_url=server.endpoint,
            region_name=REGION,
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )
        self._client.create_bucket(Bucket="models")
        self._settings = FetchSettings.model_validate(
            {"endpoint_url": server.endpoint, "region": REGION, "addressing_style": "path"}
        )
        self._content = folder / "content"
        self._content.write_bytes(content)
        self._digest = Digest(hashlib.sha256(content).hexdigest())
        package = folder / "package"
        self._package = Digest.parse(
            packages.write(
                package,
                {"model.onnx": ("model", b"\x08\x0a"), "w.bin": ("externalData", content)},
            )
        )
        self._client.upload_file(str(self._content), "models", "bare.bin")
        for path in package.iterdir():
            self._client.upload_file(str(path), "models", f"package/{path.name}")

    def table(self) -> dict[str, Callable[[Path], None]]:
        return {
            "plain download, one stream": self._one_stream,
            "plain download, boto3 (s3transfer)": self._boto3,
            "SHA-256 alone": self._hash_alone,
            "boto3, then SHA-256": self._boto3_then_hash,
            "fetch, bare file": self._fetch_bare,
            "fetch, package with chunks": self._fetch_package,
        }

    def _one_stream(self, folder: Path) -> None:
        parameters = {"Bucket": "models", "Key": "bare.bin"}
        url = self._signer.generate_presigned_url("get_object", Params=parameters)
        with urllib.request.urlopen(url) as answer, (folder / "f").open("wb") as file:
            shutil.copyfileobj(answer, file, MEBIBYTE)
        sync(folder / "f")

    def _boto3(self, folder: Path) -> None:
        config = TransferConfig(max_concurrency=CONNECTIONS)
        self._client.download_file("models", "bare.bin", str(folder / "f"), Config=config)
        sync(folder / "f")

    def _boto3_then_hash(self, folder: Path) -> None:
        self._boto3(folder)
        with (folder / "f").open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == self._digest.hex

    def _hash_alone(self, _folder: Path) -> None:
        with self._content.open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == self._digest.hex

    def _fetch_bare(self, folder: Path) -> None:
        self._fetch("s3://models/bare.bin", self._digest, folder)

    def _fetch_package(self, folder: Path) -> None:
        self._fetch("s3://models/package/slipway.json", self._package, folder)

    def _fetch(self, uri: str, digest: Digest, folder: Path) -> None:
        source = open_source(uri, self._settings)
        fetch(source, digest, Cache(folder), max_bytes=None, retry=Retry(), connections=CONNECTIONS)


def measure(way: Callable[[Path], None]) -> tuple[float, float]:
    """Return seconds of time and of this process's CPU."""
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        used = resource.getrusage(resource.RUSAGE_SELF)
        begun = time.perf_counter()
        way(Path(folder))
        seconds = time.perf_counter() - begun
        now = resource.getrusage(resource.RUSAGE_SELF)
    return seconds, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime


def peak_memory(server: S3Server, folder: Path) -> int:
    """Return the most memory that `slipway-runtime fetch` of the bare file had, in MiB."""
    digest = hashlib.sha256((folder / "content").read_bytes()).hexdigest()
    environment = os.environ | {
        "SLIPWAY_CACHE_DIR": str(folder / "cache"),
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_REGION": REGION,
        "SLIPWAY_S3_ADDRESSING_STYLE": "path",
    }
    program = Path(sys.executable).parent / "slipway-runtime"
    command = [program, "fetch", "--uri", "s3://models/bare.bin", "--digest", f"sha256:{digest}"]
    running = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(running.pid, 0)
    assert status == 0
    return used.ru_maxrss >> 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mebibytes", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results/fetch.json")
    options = parser.parse_args()
    some = random.Random(0)
    content = b"".join(some.randbytes(MEBIBYTE) for _ in range(options.mebibytes))
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(S3Server("bench-fetch"))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slipway-bench-")))
        ways = Ways(server, content, folder).table()
        del content
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, way in ways.items():
                taken[name].append(measure(way))
        memory = peak_memory(server, folder)
        load = os.getloadavg()[0]
    seconds = {name: statistics.median(s for s, _ in runs) for name, runs in taken.items()}
    cpu = {name: statistics.median(c for _, c in runs) for name, runs in taken.items()}
    plain = min(seconds[name] for name in seconds if name.startswith("plain"))
    bound = max(plain, seconds["SHA-256 alone"])
    for name, value in seconds.items():
        print(
            f"{name:36} {value:6.2f} s  {options.mebibytes / value:7.0f} MiB/s"
            f"  {cpu[name]:5.2f} s of CPU  {100 * bound / value:4.0f} % of the slower bound"
        )
    options.out.write_text(
        json.dumps(
            {
                "mebibytes": options.mebibytes,
                "rounds": options.rounds,
                "connections": CONNECTIONS,
                "cores": os.cpu_count(),
                "load": round(load, 1),
                "peak_resident_mebibytes": memory,
                "seconds": {name: round(value, 3) for name, value in seconds.items()},
                "cpu_seconds": {name: round(value, 3) for name, value in cpu.items()},
                "share_of_slower_bound": {
                    name: round(bound / value, 3) for name, value in seconds.items()
                },
            },
            indent=2,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()

"""How fast an artifact gets into the cache: `fetch` beside a plain download and SHA-256 alone.

    make bench-fetch                     # 512 MiB, five rounds, an S3 server of this machine
    python bench/fetch.py --mebibytes 64 --rounds 3

Every way but the hash writes to the same disk and syncs. The rounds are interleaved: each way once
a round, so that what else the machine does hits all of them; the table shows medians. The server
runs on the same cores as the clients, so CPU time decides here; the ways that hash pay for it.
Clients are made beforehand, for all ways alike. Where the package awscrt is installed, the AWS CRT
is a way too: `PYTHONPATH=tests/support uv run --frozen --with awscrt python bench/fetch.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import os
import random
import resource
import shutil
import ssl
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
import botocore.session
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from environment import environment, on_what, publish
from runtime_kit import packages

from slipway_dev.s3 import REGION, S3Server
from slipway_runtime.artifact.cache import Cache
from slipway_runtime.artifact.digest import Digest
from slipway_runtime.artifact.fetch import fetch
from slipway_runtime.artifact.retry import Retry
from slipway_runtime.artifact.sources import Source, open_source
from slipway_runtime.settings import FetchSettings

HAS_CRT = importlib.util.find_spec("awscrt") is not None
ROOT = Path(__file__).resolve().parents[1]
MEBIBYTE = 1 << 20
CONNECTIONS = 8

Json = dict[str, Any]


def sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def crt_manager(server: S3Server, verify: str | None) -> Any:
    """The AWS CRT behind boto3's transfer manager, path-style as the server wants it."""
    crt = importlib.import_module("s3transfer.crt")
    session = botocore.session.Session()
    session.set_credentials(server.root.access, server.root.secret)
    credentials = crt.BotocoreCRTCredentialsWrapper(session.get_credentials())
    options = {
        "endpoint_url": server.endpoint,
        "region_name": REGION,
        "config": Config(s3={"addressing_style": "path"}),
    }
    client = crt.create_s3_crt_client(
        REGION,
        credentials.to_crt_credentials_provider(),
        use_ssl=verify is not None,
        verify=verify,
    )
    return crt.CRTTransferManager(client, crt.BotocoreCRTRequestSerializer(session, options))


class Ways:
    """The ways to get one object, each a function of an empty folder."""

    def __init__(self, server: S3Server, content: bytes, folder: Path, *, tls: bool) -> None:
        keys = server.root
        verify = str(server.authority) if tls else None
        self._tls = ssl.create_default_context(cafile=verify) if tls else None
        os.environ |= {"AWS_ACCESS_KEY_ID": keys.access, "AWS_SECRET_ACCESS_KEY": keys.secret}
        os.environ["NO_PROXY"] = "*"
        self._client: Any = server.root_client()
        self._signer: Any = boto3.client(
            "s3",
            endpoint_url=server.endpoint,
            region_name=REGION,
            verify=verify,
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )
        self._client.create_bucket(Bucket="models")
        self._settings = FetchSettings.model_validate(
            {
                "endpoint_url": server.endpoint,
                "region": REGION,
                "addressing_style": "path",
                "ca_bundle": server.authority if tls else None,
            }
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
        uploads = {"bare.bin": self._content}
        uploads |= {f"package/{path.name}": path for path in package.iterdir()}
        for key, path in uploads.items():
            with path.open("rb") as body:  # In one piece: large parts over TLS break this server.
                self._client.put_object(Bucket="models", Key=key, Body=body)

        self._crt_manager: Any = crt_manager(server, verify) if HAS_CRT else None
        self._bare_source = open_source("s3://models/bare.bin", self._settings)
        self._package_source = open_source("s3://models/package/slipway.json", self._settings)

    def table(self) -> dict[str, Callable[[Path], None]]:
        return {
            "plain download, one stream": self._one_stream,
            "plain download, boto3 (s3transfer)": self._boto3,
            **({"plain download, boto3 (AWS CRT)": self._crt} if HAS_CRT else {}),
            "SHA-256 alone": self._hash_alone,
            "boto3 (s3transfer), then SHA-256": self._boto3_then_hash,
            **({"boto3 (AWS CRT), then SHA-256": self._crt_then_hash} if HAS_CRT else {}),
            "fetch, bare file": self._fetch_bare,
            "fetch, package with chunks": self._fetch_package,
        }

    def _one_stream(self, folder: Path) -> None:
        parameters = {"Bucket": "models", "Key": "bare.bin"}
        url = self._signer.generate_presigned_url("get_object", Params=parameters)
        with (
            urllib.request.urlopen(url, context=self._tls) as answer,
            (folder / "f").open("wb") as file,
        ):
            shutil.copyfileobj(answer, file, MEBIBYTE)
        sync(folder / "f")

    def _boto3(self, folder: Path) -> None:
        config = TransferConfig(max_concurrency=CONNECTIONS)
        self._client.download_file("models", "bare.bin", str(folder / "f"), Config=config)
        sync(folder / "f")

    def _boto3_then_hash(self, folder: Path) -> None:
        self._boto3(folder)
        self._hash(folder / "f")

    def _crt(self, folder: Path) -> None:
        self._crt_manager.download("models", "bare.bin", str(folder / "f")).result()
        while not (folder / "f").exists():  # It gets its name a moment after the result is there.
            time.sleep(0.0005)
        sync(folder / "f")

    def _crt_then_hash(self, folder: Path) -> None:
        self._crt(folder)
        self._hash(folder / "f")

    def _hash(self, path: Path) -> None:
        with path.open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == self._digest.hex

    def _hash_alone(self, _folder: Path) -> None:
        self._hash(self._content)

    def _fetch_bare(self, folder: Path) -> None:
        self._fetch(self._bare_source, self._digest, folder)

    def _fetch_package(self, folder: Path) -> None:
        self._fetch(self._package_source, self._package, folder)

    def _fetch(self, source: Source, digest: Digest, folder: Path) -> None:
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


def peak_memory(server: S3Server, folder: Path, *, tls: bool) -> int:
    """Return the most memory that `slipway-runtime fetch` of the bare file had, in MiB."""
    digest = hashlib.sha256((folder / "content").read_bytes()).hexdigest()
    environment = os.environ | {
        "SLIPWAY_CACHE_DIR": str(folder / "cache"),
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_REGION": REGION,
        "SLIPWAY_S3_ADDRESSING_STYLE": "path",
        **({"SLIPWAY_CA_BUNDLE": str(server.authority)} if tls else {}),
    }
    program = Path(sys.executable).parent / "slipway-runtime"
    command = [program, "fetch", "--uri", "s3://models/bare.bin", "--digest", f"sha256:{digest}"]
    running = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    # The kernel counts what this process had before it became another one into ru_maxrss.
    most = 0
    while running.poll() is None:
        with contextlib.suppress(OSError, IndexError):
            status = Path(f"/proc/{running.pid}/status").read_text()
            most = max(most, int(status.partition("VmHWM:")[2].split()[0]))
        time.sleep(0.005)
    assert running.returncode == 0
    return most >> 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mebibytes", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tls", action="store_true", help="the server speaks TLS")
    parser.add_argument("--results", type=Path, default=ROOT / "bench/results")
    options = parser.parse_args()
    some = random.Random(0)
    content = b"".join(some.randbytes(MEBIBYTE) for _ in range(options.mebibytes))
    with contextlib.ExitStack() as stack:
        server = S3Server("bench-fetch", tls=options.tls)
        server.down()  # what a run that was killed has left
        stack.enter_context(server)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slipway-bench-")))
        ways = Ways(server, content, folder, tls=options.tls).table()
        del content
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, way in ways.items():
                taken[name].append(measure(way))
        memory = peak_memory(server, folder, tls=options.tls)
        load = os.getloadavg()[0]
    results: Json = {
        "environment": environment() | {"load_1m": round(load, 2)},
        "mebibytes": options.mebibytes,
        "rounds": options.rounds,
        "connections": CONNECTIONS,
        "tls": options.tls,
        "peak_resident_mebibytes": memory,
        "seconds": {name: [round(s, 3) for s, _ in runs] for name, runs in taken.items()},
        "cpu_seconds": {name: [round(c, 3) for _, c in runs] for name, runs in taken.items()},
        "share_of_slower_bound": _shares({n: [s for s, _ in runs] for n, runs in taken.items()}),
    }
    publish(options.results, "fetch_tls" if options.tls else "fetch", results, table(results))


def _shares(seconds: dict[str, list[float]]) -> dict[str, list[float]]:
    """What each way takes, round by round, of the slower of a plain download and SHA-256."""
    plain = [name for name in seconds if name.startswith("plain")]
    bounds = [
        max(min(seconds[name][number] for name in plain), hashed)
        for number, hashed in enumerate(seconds["SHA-256 alone"])
    ]
    return {
        name: [round(bound / taken, 3) for bound, taken in zip(bounds, runs, strict=True)]
        for name, runs in seconds.items()
    }


def table(results: Json) -> str:
    over = " over TLS" if results["tls"] else ""
    size = results["mebibytes"]
    lines = [
        f"# Fetching {size} MiB{over}",
        "",
        *on_what(results),
        "",
        f"{results['rounds']} interleaved rounds; the S3 server is on the same machine. The bound",
        "is the slower of the quickest plain download and SHA-256 alone, of the same round;",
        "medians and range. Everything fetched is on disk, synced.",
        "",
        "| way | MiB/s | s of CPU | share of the bound | range |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, runs in results["seconds"].items():
        shares = sorted(results["share_of_slower_bound"][name])
        cpu = statistics.median(results["cpu_seconds"][name])
        lines.append(
            f"| {name} | {size / statistics.median(runs):,.0f} | {cpu:.2f} |"
            f" {statistics.median(shares):.0%} | {shares[0]:.0%}-{shares[-1]:.0%} |"
        )
    peak = results["peak_resident_mebibytes"]
    return "\n".join([*lines, "", f"Memory of a fetch at most: {peak} MiB."]) + "\n"


if __name__ == "__main__":
    main()

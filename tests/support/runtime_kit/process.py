"""Runs slipway-runtime as the pod does: a process with arguments and environment."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PROGRAM = Path(sys.executable).parent / "slipway-runtime"
_PORT = re.compile(r"(?<!gRPC )listening on port (\d+)")
_GRPC_PORT = re.compile(r"gRPC listening on port (\d+)")


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def seed(cache: Path, content: bytes, digest: str | None = None) -> str:
    """Put content into the cache as `fetch` would; under a false digest if one is given."""
    digest = digest or digest_of(content)
    entry = cache / "sha256" / digest.removeprefix("sha256:")
    entry.mkdir(parents=True, exist_ok=True)
    (entry / "model.onnx").write_bytes(content)
    return digest


def environment(folder: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "SLIPWAY_")) and not name.lower().endswith("_proxy")
    }
    return inherited | {
        "SLIPWAY_CACHE_DIR": str(folder / "cache"),
        "SLIPWAY_TERMINATION_LOG": str(folder / "termination"),
        "SLIPWAY_HOST": "127.0.0.1",
        "SLIPWAY_PORT": "0",
        "AWS_EC2_METADATA_DISABLED": "true",
        **(extra or {}),
    }


@dataclass(frozen=True)
class Ended:
    code: int
    log: str
    termination: dict[str, Any]


def run(folder: Path, *arguments: str, extra: Mapping[str, str] | None = None) -> Ended:
    """Run a command to its end."""
    done = subprocess.run(
        [PROGRAM, *arguments],
        env=environment(folder, extra),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Ended(done.returncode, done.stdout + done.stderr, termination(folder))


def termination(folder: Path) -> dict[str, Any]:
    path = folder / "termination"
    if not path.exists():
        return {}
    content = path.read_bytes()
    assert len(content) <= 2048
    return json.loads(content)


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """`slipway-runtime serve` on a loopback port of its own choice."""

    @classmethod
    def of_cached(cls, folder: Path, digest: str, **options: Any) -> Self:
        """A server of what `fetch` has put into the cache below the folder."""
        return cls(folder, None, digest=digest, **options)

    def __init__(
        self,
        folder: Path,
        content: bytes | None,
        *,
        name: str = "m",
        extra: Mapping[str, str] | None = None,
        digest: str | None = None,
        program: Sequence[str | Path] = (PROGRAM,),
    ) -> None:
        self._program = program
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.digest = digest or "" if content is None else seed(folder / "cache", content, digest)
        self._extra = {"SLIPWAY_DRAIN_DELAY_SECONDS": "0.2", **(extra or {})}
        self.log_path = folder / "log"
        self.host = "127.0.0.1"
        self.port = 0

    def start(self) -> Self:
        self._log = self.log_path.open("w")
        self.process = subprocess.Popen(
            [*self._program, "serve", "--digest", self.digest, "--name", self.name],
            env=environment(self.folder, self._extra),
            stdout=self._log,
            stderr=self._log,
        )
        return self

    def wait_for_port(self, seconds: float = 30) -> Self:
        self._until(lambda: bool(_PORT.search(self.log)), seconds)
        found = _PORT.search(self.log)
        assert found
        self.port = int(found[1])
        return self

    def wait_until_ready(self, seconds: float = 30) -> Self:
        self.wait_for_port(seconds)
        self._until(lambda: self.get("/v2/health/ready").status == 200, seconds)
        return self

    def wait_for_log(self, text: str, seconds: float = 10) -> list[str]:
        """Wait for a whole line of the log that has the text; return all whole lines."""

        def lines() -> list[str]:
            return self.log[: self.log.rfind("\n") + 1].splitlines()

        self._until(lambda: any(text in line for line in lines()), seconds)
        return lines()

    def wait_for_end(self, seconds: float = 30) -> Ended:
        code = self.process.wait(seconds)
        return Ended(code, self.log, termination(self.folder))

    @property
    def grpc_address(self) -> str:
        found = _GRPC_PORT.search(self.log)
        assert found
        return f"127.0.0.1:{found[1]}"

    def children(self) -> list[int]:
        """The processes that it has started, and that have not ended; in their order."""
        started = list[int]()
        for status in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                pid, _, rest = status.read_text().partition(" ")
                state, parent, *_ = rest.rpartition(")")[2].split()
                if int(parent) == self.process.pid and state != "Z":
                    started.append(int(pid))
        return sorted(started)

    def resident_bytes(self) -> int:
        """Its resident set, without its children's."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found, status
        return int(found[1]) * 1024

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def connect(self, timeout: float = 30) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def get(self, path: str) -> Reply:
        return self.request("GET", path)

    def post(self, path: str, document: object, headers: Mapping[str, str] | None = None) -> Reply:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        return self.request(
            "POST", path, body, {"content-type": "application/json", **(headers or {})}
        )

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        connection = self.connect()
        try:
            return send(connection, method, path, body, headers)
        finally:
            connection.close()

    def _until(self, condition: Any, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._log.close()


def send(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    connection.request(method, path, body, dict(headers or {}))
    response = connection.getresponse()
    content = response.read()
    return Reply(
        response.status, {name.lower(): value for name, value in response.getheaders()}, content
    )

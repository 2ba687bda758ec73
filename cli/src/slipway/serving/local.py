"""The runtime on this machine: slipway-runtime as two processes, just as a pod has it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from slipway import errors
from slipway.errors import MissingExtra, SlipwayError, Unavailable
from slipway.package.source import LocalArtifact

PROGRAM = "slipway-runtime"
_POLL_SECONDS = 0.05
_GRACE_SECONDS = 30.0
# What the runtime says, as this program says it.
_REASONS: dict[str, type[SlipwayError]] = {
    "DigestMismatch": errors.Differs,
    "GoldenMismatch": errors.Differs,
    "InvalidModel": errors.InvalidModel,
    "UnsupportedOpset": errors.InvalidModel,
    "WarmupFailed": errors.InvalidModel,
    "TooLarge": errors.InvalidModel,
    "InvalidArguments": errors.InvalidArguments,
}


@dataclass(frozen=True)
class Wanted:
    """How to serve. ``port`` 0 takes any that is free; ``cache`` holds verified copies."""

    name: str
    host: str
    port: int
    providers: Sequence[str]
    cache: Path


class LocalServer:
    """A model served by a process of this machine; as a context manager it ends with the block."""

    def __init__(self, artifact: LocalArtifact, wanted: Wanted) -> None:
        """Raise MissingExtra without the runtime."""
        self._program = _program()
        self._entry, self.digest = artifact.entry, artifact.digest
        self._wanted = wanted
        self._port = wanted.port or _free_port(wanted.host)
        self._termination = wanted.cache / "termination.json"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        host = "localhost" if self._wanted.host in ("127.0.0.1", "0.0.0.0") else self._wanted.host  # noqa: S104
        return f"http://{host}:{self._port}"

    def __enter__(self) -> Self:
        self._wanted.cache.mkdir(parents=True, exist_ok=True)
        uri = self._entry.resolve().as_uri()
        self._run_fetch(uri)
        self._process = subprocess.Popen(
            [self._program, "serve", "--digest", self.digest, "--name", self._wanted.name],
            env=self._environment(),
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)
            return
        process.kill()
        process.wait()

    def wait_until_ready(self) -> None:
        """Return when the model is verified, loaded and warm.

        Raises:
            InvalidModel, Differs, Unavailable: the runtime gave up, and why.
        """
        while not self._ready():
            self._raise_if_ended()
            time.sleep(_POLL_SECONDS)

    def wait(self) -> None:
        """Return when the server has ended by itself. Raises as `wait_until_ready`."""
        assert self._process is not None
        self._process.wait()
        self._raise_if_ended()

    def _raise_if_ended(self) -> None:
        assert self._process is not None
        code = self._process.poll()
        if code:
            raise self._failure(code)

    def _run_fetch(self, uri: str) -> None:
        command = [self._program, "fetch", "--uri", uri, "--digest", self.digest]
        done = subprocess.run(
            command, env=self._environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise self._failure(done.returncode)

    def _failure(self, code: int) -> SlipwayError:
        try:
            told: Any = json.loads(self._termination.read_text())
            kind = _REASONS.get(told["reason"], Unavailable)
            return kind(f"the runtime says {told['reason']}: {told['message']}")
        except (OSError, ValueError, KeyError):
            return Unavailable(
                f"the runtime ended with code {code} and said nothing",
                f"is port {self._port} taken? --port 0 takes any that is free",
            )

    def _ready(self) -> bool:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=2)
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False

    def _environment(self) -> dict[str, str]:
        self._termination.unlink(missing_ok=True)
        return dict(os.environ) | {
            "SLIPWAY_CACHE_DIR": str(self._wanted.cache),
            "SLIPWAY_TERMINATION_LOG": str(self._termination),
            "SLIPWAY_LOG_FORMAT": "text",
            "SLIPWAY_LOG_LEVEL": os.environ.get("SLIPWAY_LOG_LEVEL", "WARNING"),
            "SLIPWAY_HOST": self._wanted.host,
            "SLIPWAY_PORT": str(self._port),
            "SLIPWAY_PROVIDERS": ",".join(self._wanted.providers),
            "SLIPWAY_DRAIN_DELAY_SECONDS": "0",
        }


def _program() -> str:
    beside = Path(sys.executable).parent / PROGRAM
    found = str(beside) if beside.is_file() else shutil.which(PROGRAM)
    if found is None:
        raise MissingExtra(f"{PROGRAM} is not installed", "pip install 'slipway[serve]'")
    return found


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])

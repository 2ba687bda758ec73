"""The servers that are measured side by side: how each is installed, started and asked."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from models import Feeds
from request import Request, ask, nested, v2_binary, v2_json
from server_process import SERVER_CORE, send

from slipway_dev.network import free_port

HERE = Path(__file__).parent
APPLICATIONS = HERE / "serving_peers"
OURS = "slipway, JSON"
_START_SECONDS = 90


@dataclass(frozen=True)
class Peer:
    """A server: what it needs from PyPI, and how it is started on a port."""

    name: str
    packages: tuple[str, ...]
    command: Callable[[Path, Path, int], list[str]]
    ready: str
    request: Callable[[Feeds], Request]
    environment: Callable[[Path, int], dict[str, str]] = lambda _model, _port: {}

    @property
    def product(self) -> str:
        """Its name without the way in which it is used."""
        return self.name.split(",")[0]

    @property
    def ours(self) -> bool:
        return not self.packages


def _slipway(_environment: Path, model: Path, _port: int) -> list[str]:
    program = Path(sys.executable).parent / "slipway-runtime"
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    return [str(program), "serve", "--digest", f"sha256:{digest}", "--name", "m"]


def _slipway_environment(model: Path, port: int) -> dict[str, str]:
    cache = model.parent / "cache"
    entry = cache / "sha256" / hashlib.sha256(model.read_bytes()).hexdigest()
    entry.mkdir(parents=True, exist_ok=True)
    shutil.copy(model, entry / "model.onnx")
    return {
        "SLIPWAY_CACHE_DIR": str(cache),
        "SLIPWAY_HOST": "127.0.0.1",
        "SLIPWAY_PORT": str(port),
        "SLIPWAY_TERMINATION_LOG": str(model.parent / "termination"),
        "SLIPWAY_ACCESS_LOG": "true",
        "SLIPWAY_INTRA_OP_THREADS": "1",
    }


def _fastapi(application: str) -> Callable[[Path, Path, int], list[str]]:
    return lambda environment, _model, port: [
        str(environment / "bin/uvicorn"),
        application,
        *("--app-dir", str(APPLICATIONS), "--host", "127.0.0.1", "--port", str(port)),
        *("--loop", "uvloop", "--http", "httptools", "--log-level", "warning"),
        *("--no-access-log", "--workers", "1"),
    ]


def _script(name: str) -> Callable[[Path, Path, int], list[str]]:
    return lambda environment, _model, _port: [
        str(environment / "bin/python"),
        str(APPLICATIONS / name),
    ]


def _mlserver(environment: Path, model: Path, port: int) -> list[str]:
    folder = model.parent / "mlserver"
    folder.mkdir(exist_ok=True)
    shutil.copy(APPLICATIONS / "mlserver_model.py", folder)
    settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": port + 1000}
    settings |= {"metrics_port": port + 2000, "parallel_workers": 0, "debug": False}
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(
        json.dumps({"name": "m", "implementation": "mlserver_model.Onnx"})
    )
    return [str(environment / "bin/mlserver"), "start", str(folder)]


def _bentoml(environment: Path, _model: Path, port: int) -> list[str]:
    return [
        *(str(environment / "bin/bentoml"), "serve", "bentoml_service:Onnx"),
        *("--working-dir", str(APPLICATIONS), "--host", "127.0.0.1", "--port", str(port)),
    ]


_FASTAPI = ("fastapi", "uvicorn[standard]", "onnxruntime", "numpy")
_SLIPWAY_READY, _V2_READY = "/v2/health/ready", "/v2/models/m/ready"
PEERS = (
    Peer(OURS, (), _slipway, _SLIPWAY_READY, v2_json, _slipway_environment),
    Peer("slipway, binary", (), _slipway, _SLIPWAY_READY, v2_binary, _slipway_environment),
    Peer("fastapi, def", _FASTAPI, _fastapi("fastapi_app:app"), "/health", nested),
    Peer("fastapi, async def", _FASTAPI, _fastapi("fastapi_app:async_app"), "/health", nested),
    Peer("mlserver", ("mlserver", "onnxruntime"), _mlserver, _V2_READY, v2_json),
    Peer("kserve", ("kserve", "onnxruntime"), _script("kserve_server.py"), _V2_READY, v2_json),
    Peer(
        "litserve",
        ("litserve", "onnxruntime", "numpy"),
        _script("litserve_server.py"),
        "/health",
        nested,
    ),
    Peer(
        "bentoml",
        ("bentoml", "onnxruntime", "numpy"),
        _bentoml,
        "/readyz",
        nested,
        lambda _model, _port: {"BENTOML_DO_NOT_TRACK": "True"},
    ),
)


def environment_of(peer: Peer, folder: Path) -> Path | None:
    """Make the peer's environment; None if it cannot be installed."""
    if peer.ours:
        return Path(sys.prefix)
    target = folder / peer.product
    if (target / "installed").exists():
        return target
    uv = os.environ.get("UV") or shutil.which("uv") or "uv"
    print(f"installing {peer.product}", flush=True)
    subprocess.run([uv, "venv", "--quiet", "--allow-existing", str(target)], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", str(target / "bin/python")]
    if subprocess.run([*install, *peer.packages], check=False, timeout=600).returncode != 0:
        return None
    (target / "installed").touch()
    return target


@contextlib.contextmanager
def running(peer: Peer, environment: Path, model: Path) -> Iterator[tuple[int, int, float]]:
    """Start the server on its core and wait until it is ready: process, port, seconds it took.

    Raises:
        RuntimeError: it has ended, or did not get ready in time.
    """
    port = free_port()
    inherited = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    variables = {
        "MODEL": str(model),
        "PORT": str(port),
        "PYTHONPATH": str(APPLICATIONS) if peer.name == "mlserver" else "",
        "ORT_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": "1",
        **peer.environment(model, port),
    }
    log = (model.parent / f"{peer.name.replace(' ', '-')}.log").open("w")
    began = time.perf_counter()
    process = subprocess.Popen(
        ["taskset", "--cpu-list", SERVER_CORE, *peer.command(environment, model, port)],
        env=inherited | variables,
        stdout=log,
        stderr=log,
        cwd=model.parent,  # LitServe writes a client into its working directory.
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(OSError):
                if ask(port, Request(peer.ready, b"", lambda _body, _headers: []), "GET")[0] == 200:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                told = Path(log.name).read_text()[-300:]
                raise RuntimeError(f"{peer.name} did not start: {told}")
            time.sleep(0.01)
        yield process.pid, port, time.perf_counter() - began
    finally:
        send(process.pid, signal.SIGKILL)
        process.wait()
        log.close()

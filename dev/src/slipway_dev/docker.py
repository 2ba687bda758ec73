"""A Docker daemon of our own, up only while it is used, to build the project's images.

It touches neither the network nor the rules of the machine: builds use the host's network.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from slipway_dev import debian, mounts, paths
from slipway_dev.console import console
from slipway_dev.errors import DevError
from slipway_dev.locks import exclusive
from slipway_dev.process import Program, kill, running_with_argument

# Debian's client has BuildKit inside; another one on PATH may lack its plug-in.
_CLIENT = Path("/usr/bin/docker")
_DAEMON = Path("/usr/sbin/dockerd")
_PROXY_VARIABLES = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)
_OUTPUT_LINES = 40
_CHUNK_BYTES = 64 * 1024
_FIXED_PLACES = tuple(
    Path(place)
    for place in (
        "/run/docker/plugins",
        "/run/docker",
        "/run/runc",
        "/opt/containerd/bin",
        "/opt/containerd/lib",
        "/opt/containerd",
    )
)


def is_used_here() -> bool:
    """Say whether images were built on this machine, so that a daemon has a store to look into."""
    return _store().is_dir()


class Daemon:
    """The daemon, for as long as a `with` block lasts; other processes wait for their turn."""

    def __init__(self) -> None:
        self._folder = paths.state() / "docker"
        self._data = _store()
        self._program = Program("dockerd", self._folder)
        self._socket = f"unix://{self._folder}/docker.sock"
        self._held = ExitStack()

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            raise DevError("Building images needs root: it makes mounts.", "Run it as root.")
        debian.ensure(debian.IMAGE_PACKAGES)
        with ExitStack() as held:
            held.enter_context(exclusive(self._data, "the Docker daemon, in use"))
            self._clean()
            held.callback(self._clean)
            self._start()
            self._held = held.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._held.close()

    def has(self, image: str) -> bool:
        """Say whether the daemon knows the image."""
        return self._run("image", "inspect", image, check=False).returncode == 0

    def identity(self, image: str) -> str:
        """Return the digest that names the image's content and configuration."""
        if not self.has(image):
            raise DevError(f"There is no image {image}.", "dev/cluster build-images makes ours.")
        return self._run("image", "inspect", "--format={{.Id}}", image).stdout.strip()

    def size(self, image: str) -> int:
        """Return the size of an image in bytes, as `docker images` counts it."""
        return int(self._run("image", "inspect", "--format={{.Size}}", image).stdout)

    def import_root(self, archive: Path, image: str, settings: Sequence[str]) -> None:
        """Make an image of one layer from a tar of a root file system."""
        changes = [f"--change={setting}" for setting in settings]
        self._run("import", *changes, str(archive), image)

    def build(
        self,
        dockerfile: Path,
        context: Path,
        image: str,
        arguments: Mapping[str, str],
        secrets: Mapping[str, Path],
    ) -> None:
        """Build an image, showing docker's own progress on a terminal and only errors elsewhere."""
        proxies = {name: os.environ[name] for name in _PROXY_VARIABLES if name in os.environ}
        command = ["build", "--network=host", f"--tag={image}", f"--file={dockerfile}"]
        command += [f"--build-arg={key}={value}" for key, value in {**proxies, **arguments}.items()]
        command += [f"--secret=id={name},src={file}" for name, file in secrets.items()]
        output = None if console.is_terminal else subprocess.PIPE
        done = subprocess.run(
            [*self.client(), *command, str(context)],
            check=False,
            stdout=output or sys.stderr,
            stderr=output and subprocess.STDOUT,
            text=True,
            env=self.environment(),
        )
        if done.returncode != 0:
            last = (done.stdout or "(see above)").splitlines()[-_OUTPUT_LINES:]
            raise DevError(f"{dockerfile.name} does not build: " + "\n".join(last))

    def unpack(self, image: str, folder: Path) -> dict[str, str]:
        """Lay the root file system of an image into a folder; return its variables."""
        folder.mkdir(parents=True)
        container = self._run("create", "--network=none", image).stdout.strip()
        try:
            tar = folder.with_suffix(".tar")
            self._run("export", f"--output={tar}", container)
            with tarfile.open(tar) as archive:
                archive.extractall(folder, filter="fully_trusted")
            tar.unlink()
        finally:
            self._run("rm", container)
        variables = self._run("image", "inspect", "--format={{json .Config.Env}}", image).stdout
        return dict(variable.split("=", 1) for variable in json.loads(variables))

    @contextmanager
    def save(self, image: str) -> Generator[IO[bytes]]:
        """Yield an image as a stream in the docker-archive format."""
        with subprocess.Popen(
            [*self.client(), "save", image], stdout=subprocess.PIPE, env=self.environment()
        ) as process:
            assert process.stdout is not None
            yield process.stdout
            # Who reads an archive stops at its end, where the client may still write its padding.
            while process.stdout.read(_CHUNK_BYTES):
                pass
        if process.returncode != 0:
            raise DevError(f"docker save {image} failed with {process.returncode}.")

    def _start(self) -> None:
        configuration = self._folder / "daemon.json"
        self._folder.mkdir(parents=True)
        configuration.write_text("{}")
        self._program.start(
            [
                _DAEMON,
                f"--config-file={configuration}",
                f"--data-root={self._data}",
                f"--exec-root={self._exec_root()}",
                f"--pidfile={self._folder / 'docker.pid'}",
                f"--host={self._socket}",
                "--bridge=none",
                "--iptables=false",
                "--ip6tables=false",
                "--ip-forward=false",
                "--ip-masq=false",
            ]
        )
        self._program.wait_until("the Docker daemon answers", self._state, 60)

    def _state(self) -> str | None:
        done = self._run("version", "--format={{.Server.Version}}", check=False)
        return None if done.returncode == 0 else done.stderr.strip()

    def clean(self) -> None:
        """End a daemon that outlived its command, and remove what it left."""
        with exclusive(self._data, "the Docker daemon, in use"):
            self._clean()

    def _clean(self) -> None:
        self._program.stop(grace=30)
        # Its containerd ends with it, unless the daemon was killed.
        child = self._exec_root() / "containerd" / "containerd.toml"
        for orphan in running_with_argument(str(child)):
            kill(orphan)
        for folder in (self._folder, self._data):
            mounts.unmount_below(folder)
        shutil.rmtree(self._folder, ignore_errors=True)
        for folder in _FIXED_PLACES:
            with suppress(OSError):  # it may hold what is not ours
                folder.rmdir()
        paths.forget_empty_state()

    def _exec_root(self) -> Path:
        return self._folder / "run"

    def client(self) -> list[str]:
        """The command that talks to this daemon, to be run with `environment`."""
        return [str(_CLIENT), f"--host={self._socket}"]

    def environment(self) -> dict[str, str]:
        """The variables of such a command."""
        # Neither a context nor credentials of the user have a part in this.
        return {**os.environ, "DOCKER_BUILDKIT": "1", "DOCKER_CONFIG": str(self._folder)}

    def _run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*self.client(), *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=self.environment(),
        )
        if check and done.returncode != 0:
            raise DevError(f"docker {arguments[0]}: {done.stderr.strip()}")
        return done


def _store() -> Path:
    return paths.cache() / "docker"

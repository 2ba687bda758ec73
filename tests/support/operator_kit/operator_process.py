"""The operator as a process of its own, as its container runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from operator_kit.eventually import eventually
from operator_kit.installation import Installation
from slipway_dev.network import free_port

Json = dict[str, Any]

# Its own mounts end with it. The process that is started is the operator itself: all of them exec.
_IN_IMAGE = """
mount --bind "$1" "$2$1" && mount --rbind /proc "$2/proc" && mount --rbind /dev "$2/dev" &&
exec /usr/sbin/chroot "$2" slipway-operator run --config "$3"
"""

# Ample: how long a process takes to start is no test's subject, and machines are busy.
_START_SECONDS = 60.0


@dataclass(frozen=True)
class Image:
    """The operator's image, unpacked: its root file system and its variables."""

    root: Path
    environment: dict[str, str]

    @property
    def python(self) -> str:
        """The version of its Python, without the patch level."""
        return next(self.root.glob("usr/lib/python3.*")).name.removeprefix("python")


class OperatorProcess:
    """One ``slipway-operator run`` with a credential of its own."""

    def __init__(
        self,
        installation: Installation,
        folder: Path,
        name: str,
        changes: Json | None = None,
        server: str | None = None,
        environment: dict[str, str] | None = None,
        image: Image | None = None,
    ) -> None:
        """A process that is not started yet.

        Args:
            installation: whose rights and configuration it has.
            folder: for its files.
            name: of these.
            changes: to the configuration.
            server: the address of another API server than the cluster's own.
            environment: further variables.
            image: runs what is in there instead of what is installed beside the tests.
        """
        self.name = name
        self.log = folder / f"{name}.log"
        self._config = folder / f"{name}.yaml"
        self._kubeconfig = folder / f"{name}.kubeconfig"
        self._temporary = folder / f"{name}.tmp"
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        token, self.credential = installation.credential()
        installation.kubeconfig(self._kubeconfig, token, server)
        self._environment = environment or {}
        self._image = image
        wanted = {**installation.configuration(), **(changes or {}), "httpPort": self._port}
        self._config.write_text(yaml.safe_dump(wanted))

    # ---- life ----

    def start(self) -> OperatorProcess:
        """Start it; it is not ready yet."""
        assert not self.running(), f"{self.name} already runs"
        self._temporary.mkdir(exist_ok=True)
        environment = {
            "PATH": os.environ["PATH"],
            "KUBECONFIG": str(self._kubeconfig),
            # The client writes certificates into files, which a killed process leaves behind.
            "TMPDIR": str(self._temporary),
            **(self._image.environment if self._image else {}),
            **self._environment,
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
        return self

    def _command(self) -> list[str | Path]:
        if self._image is None:
            program = Path(sys.executable).with_name("slipway-operator")
            return [program, "run", "--config", self._config]
        folder, root = self._config.parent, self._image.root
        (root / folder.relative_to("/")).mkdir(parents=True, exist_ok=True)
        for name in ("proc", "dev"):
            (root / name).mkdir(exist_ok=True)
        shell = ["sh", "-c", _IN_IMAGE, "sh", folder, root, self._config]
        return ["unshare", "--mount", "--propagation=private", *shell]

    def running(self) -> bool:
        """Whether the process is there (a frozen one is)."""
        return self._process is not None and self._process.poll() is None

    @property
    def returned(self) -> int | None:
        """Its exit code, once it has ended."""
        return None if self._process is None else self._process.poll()

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process is not None
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def exit_code(self, within: float = 30.0) -> int:
        """Wait for its end."""
        assert self._process is not None
        try:
            return self._process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} does not end\n{self.tail()}") from None

    def stop(self) -> int:
        """End it in good order; returns the exit code."""
        self.signal(signal.SIGTERM)
        return self.exit_code()

    def kill(self) -> None:
        """End it as the kernel does when memory runs out."""
        if self.running():
            self.signal(signal.SIGKILL)
            self.exit_code()

    # ---- what it says ----

    def get(self, route: str) -> str:
        """The answer of one of its HTTP routes.

        Raises:
            AssertionError: it does not answer with 200.
        """
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{self._port}{route}", timeout=2) as response:
                return response.read().decode()
        except OSError as error:
            raise AssertionError(f"{self.name}: GET {route}: {error}") from error

    def metric(self, name: str) -> float:
        """The value of one sample, labels included in its name."""
        for line in self.get("/metrics").splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[-1])
        raise AssertionError(f"{self.name} has no metric {name}")

    def leads(self) -> bool:
        """Whether it holds the lease, by its own word."""
        lines = self.get("/metrics").splitlines()
        return any(
            line.startswith("slipway_operator_leader{") and line[-4:] == " 1.0" for line in lines
        )

    def until_ready(self, within: float = _START_SECONDS) -> OperatorProcess:
        """Wait until its view of the cluster is complete."""
        self._until(lambda: self.get("/readyz"), within)
        return self

    def until_leading(self, within: float = _START_SECONDS) -> OperatorProcess:
        """Wait until it holds the lease."""

        def leads() -> None:
            assert self.leads(), f"{self.name} does not lead"

        self._until(leads, within)
        return self

    def _until(self, check: Any, within: float) -> None:
        def alive_and() -> None:
            assert self.running(), (
                f"{self.name} ended with {self._process and self._process.poll()}"
            )
            check()

        eventually(alive_and, within, show=self.tail)

    def tail(self, lines: int = 40) -> str:
        """The end of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join([f"-- {self.log}", *text.splitlines()[-lines:]])

    # ---- what it uses ----

    def resident_bytes(self) -> int:
        """Resident set size."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"{self.name} has no memory")

    def cpu_seconds(self) -> float:
        """Processor time so far, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

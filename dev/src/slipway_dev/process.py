"""Supervision of long-running programs that outlive the command that started them.

A program is remembered by a pid file that also holds the start time of the process and the boot it
belongs to. Only a process that matches all three is ever signalled, and through a pidfd, so that a
pid used again by a stranger is safe at every moment.
"""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from slipway_dev.errors import DevError
from slipway_dev.wait import Probe, wait_until

LOG_TAIL_LINES = 20


@dataclass(frozen=True)
class Identity:
    """One process over all time: a pid alone is used again."""

    pid: int
    started: int  # clock ticks after boot, field 22 of /proc/PID/stat
    boot: str

    def alive(self) -> bool:
        """Say whether this very process still runs (one that has exited unreaped does not)."""
        return identify(self.pid) == self


def identify(pid: int) -> Identity | None:
    """Return the identity of the running process `pid`, or None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before may hold blanks and brackets
    state, started = fields[0], int(fields[19])
    if state in "ZX":
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return Identity(pid, started, boot)


class Program:
    """One supervised program with its pid file and its log."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.log = folder / "logs" / f"{name}.log"
        self._pid_file = folder / "pids" / f"{name}.json"

    def identity(self) -> Identity | None:
        """Return the process while it runs, else None."""
        known = self._last()
        return known if known is not None and known.alive() else None

    def running(self) -> bool:
        """Say whether the program runs (a paused one does)."""
        return self.identity() is not None

    def start(self, command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> None:
        """Start the program in a session of its own; its output is appended to the log."""
        if self.running():
            raise DevError(f"{self.name} already runs")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._pid_file.parent.mkdir(parents=True, exist_ok=True)
        argv = [os.fspath(part) for part in command]
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        try:
            pid = os.posix_spawn(
                argv[0],
                argv,
                {**_base_environment(), **(env or {})},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, str(self.log), append, 0o600),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsid=True,
            )
        except OSError as error:
            raise DevError(f"{self.name} cannot be started: {argv[0]}: {error.strerror}") from error
        identity = identify(pid)
        if identity is None:
            self._reap(pid)
            raise DevError(f"{self.name} ended at once", self.tail())
        temporary = self._pid_file.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(identity)))
        temporary.replace(self._pid_file)

    def stop(self, grace: float = 10.0) -> None:
        """End the program and wait for its exit: SIGTERM, and SIGKILL after `grace` seconds."""
        identity = self._last()
        if identity is not None:
            with _handle(identity) as handle:
                if handle is not None:
                    if grace > 0:
                        signal.pidfd_send_signal(handle, signal.SIGTERM)
                        signal.pidfd_send_signal(handle, signal.SIGCONT)
                    if not _exits(handle, grace):
                        signal.pidfd_send_signal(handle, signal.SIGKILL)
                        _exits(handle, 30)
            self._reap(identity.pid)
        self._pid_file.unlink(missing_ok=True)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the running program."""
        identity = self.identity()
        with _handle(identity) as handle:
            if handle is None:
                raise DevError(f"{self.name} does not run")
            signal.pidfd_send_signal(handle, number)

    def wait_until(self, what: str, probe: Probe, timeout: float) -> None:
        """Wait for a condition that needs this program; its death or a time-out shows its log."""

        def probe_while_alive() -> str | None:
            state = probe()
            if state is not None and not self.running():
                raise DevError(f"{self.name} ended before it was ready", self.tail())
            return state

        try:
            wait_until(what, probe_while_alive, timeout)
        except DevError as error:
            raise DevError(error.message, error.hint or self.tail()) from None

    def tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """Return the end of the log, headed by its path."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - lines * 1000))
                text = file.read().decode(errors="replace")
        except OSError:
            return f"no log at {self.log}"
        return "\n".join([f"last lines of {self.log}:", *text.splitlines()[-lines:]])

    def _last(self) -> Identity | None:
        try:
            return Identity(**json.loads(self._pid_file.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def _reap(self, pid: int) -> None:
        # Only our own children need it, and only they can be waited for.
        if identify(pid) is None:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def kill(identity: Identity) -> None:
    """Kill one process that is known by its identity, and wait for its exit."""
    with _handle(identity) as handle:
        if handle is not None:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            _exits(handle, 30)


def running_with_argument(argument: str) -> list[Identity]:
    """Return the processes that were started with exactly this argument on their command line."""
    found: list[Identity] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            identity = identify(int(entry.name))
            try:
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if identity is not None and argument.encode() in arguments:
                found.append(identity)
    return found


@contextmanager
def _handle(identity: Identity | None) -> Generator[int | None]:
    """Yield a pidfd of this very process, or None if it is gone."""
    if identity is None:
        yield None
        return
    try:
        handle = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        yield None
        return
    try:
        # The handle is fixed to a process now; only here can one see whether it is the right one.
        yield handle if identity.alive() else None
    except ProcessLookupError:
        pass  # it ended in between, which is what every caller wants or bears
    finally:
        os.close(handle)


def _exits(handle: int, timeout: float) -> bool:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def _base_environment() -> dict[str, str]:
    # Proxies and other settings of the caller's shell must not reach the cluster's programs.
    kept = ("PATH", "HOME", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ}

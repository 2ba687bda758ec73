"""A server as a process: on which core it runs, and what it takes of processor and memory."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

SERVER_CORE, LOAD_CORE = "0", "1"
_QUIET_SECONDS, _MOST_SECONDS = 0.1, 10.0
_TICKS = os.sysconf("SC_CLK_TCK")


def _family(root: int) -> dict[int, list[str]]:
    """What /proc tells of a process and its descendants, behind the name, by process.

    Not by process group: BentoML gives each of its workers a session of its own.
    """
    told: dict[int, list[str]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            told[int(stat.parent.name)] = stat.read_text().rpartition(")")[2].split()
    kin = {root}
    while grown := {pid for pid, fields in told.items() if int(fields[1]) in kin} - kin:
        kin |= grown
    return {pid: told[pid] for pid in kin if pid in told}


def send(root: int, number: signal.Signals) -> None:
    """Send a signal to a process and its descendants."""
    for pid in _family(root):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@contextlib.contextmanager
def awake(root: int) -> Iterator[None]:
    """Let a server that is stopped run for a while: an idle one takes its part of the core, too.

    It is stopped only once it has come to rest, or else the requests that a load left behind would
    cost the next one.
    """
    send(root, signal.SIGCONT)
    try:
        yield
        _rest(root)
    finally:
        send(root, signal.SIGSTOP)


def _rest(root: int) -> None:
    deadline = time.monotonic() + _MOST_SECONDS
    before = cpu_seconds(root)
    while time.monotonic() < deadline:
        time.sleep(_QUIET_SECONDS)
        now = cpu_seconds(root)
        if now - before <= 1 / _TICKS:
            return
        before = now


def cpu_seconds(root: int) -> float:
    """The processor time of a process and its descendants."""
    return sum(int(fields[11]) + int(fields[12]) for fields in _family(root).values()) / _TICKS


def resident_mebibytes(root: int) -> float:
    """The resident memory of a process and its descendants; what they share counts for each."""
    total = sum(int(fields[21]) for fields in _family(root).values())
    return total * os.sysconf("SC_PAGE_SIZE") / 2**20


def ticks(pid: int) -> float:
    """The processor time of one process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS

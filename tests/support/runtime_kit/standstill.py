"""Processes that stand still, so that much comes at once when they go on."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from runtime_kit.process import Server


@contextlib.contextmanager
def stopped(processes: Sequence[int]) -> Iterator[None]:
    """Let processes stand still meanwhile."""
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


def wait_until_accepted(server: Server) -> None:
    """Wait until the server's process has taken all connections from the kernel's queue."""
    port = f":{server.port:04X}"
    deadline = time.monotonic() + 10
    while True:
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        (waiting,) = (
            int(fields[4].partition(":")[2], 16)
            for fields in lines
            if fields[1].endswith(port) and fields[3] == "0A"
        )
        if waiting == 0:
            return
        assert time.monotonic() < deadline, waiting
        time.sleep(0.02)

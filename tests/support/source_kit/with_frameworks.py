"""`slipway` and Python in the environment with the frameworks, imported once for all tests.

A command takes 0.2 to 2 s instead of 3 to 7, most of which are the imports of PyTorch. It is the
same program with its arguments, folder, variables and streams, in a process of its own: a fork
instead of a start. tests/e2e and the examples for CI start the program itself.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from cli_kit.run import Ended, environment

from source_kit.frameworks import program

_SERVER = Path(__file__).with_name("fork_server.py")


def slipway(
    *arguments: object, cwd: Path, extra: Mapping[str, str] | None = None, timeout: int = 300
) -> Ended:
    """Run a command and return how it ended.

    Raises:
        TimeoutError: it did not end within ``timeout`` seconds.
    """
    return _run("slipway", arguments, cwd, extra, timeout)


def python(*arguments: object, cwd: Path, extra: Mapping[str, str] | None = None) -> str:
    """Run a script, or code behind "-c", and return what it printed.

    Raises:
        AssertionError: it failed.
    """
    ended = _run("python", arguments, cwd, extra, timeout=600)
    assert ended.code == 0, f"{arguments[:2]}\n{ended.out}{ended.err}"
    return ended.out


def _run(
    name: str,
    arguments: tuple[object, ...],
    cwd: Path,
    extra: Mapping[str, str] | None,
    timeout: int,
) -> Ended:
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        asked = {
            "argv": [str(program(name)), *map(str, arguments)],
            "cwd": str(cwd),
            "env": environment(extra),
            "out": str(out),
            "err": str(err),
            "timeout": timeout,
        }
        try:
            server.stdin.write(json.dumps(asked) + "\n")
            server.stdin.flush()
            code = int(server.stdout.readline())
        except BaseException:
            # Whoever asks next must not get this answer.
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
            _server.cache_clear()
            raise
        ended = Ended(code, out.read_text(), err.read_text())
    if code == -signal.SIGALRM:
        raise TimeoutError(f"no end after {timeout} s: {arguments}\n{ended.out}{ended.err}")
    return ended


@cache
def _server() -> subprocess.Popen[str]:
    """Start the server, which ends with this process: its input does."""
    return subprocess.Popen(
        [program("python"), _SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
        text=True,
        start_new_session=True,
    )

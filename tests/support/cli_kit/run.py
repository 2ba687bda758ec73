"""Runs `slipway` in this process, as quickly as many tests want it, or in one of its own."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.cli import run

PROGRAM = Path(sys.executable).parent / "slipway"


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def slipway(*arguments: object) -> Ended:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run([str(argument) for argument in arguments])
    return Ended(code, out.getvalue(), err.getvalue())


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "SLIPWAY_")) and not name.lower().endswith("_proxy")
    }
    return inherited | {"AWS_EC2_METADATA_DISABLED": "true", **(extra or {})}


def process(
    *arguments: object,
    extra: Mapping[str, str] | None = None,
    program: Path = PROGRAM,
    cwd: Path | None = None,
    timeout: float = 120,
) -> Ended:
    done = subprocess.run(
        [program, *map(str, arguments)],
        env=environment(extra),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)

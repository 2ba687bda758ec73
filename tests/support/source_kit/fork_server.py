"""Runs `slipway` and Python code in forks of this process, which has imported the frameworks.

Started by `with_frameworks` in the frameworks' environment. Reads a request a line (JSON) and
answers each with the exit code of its fork.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

from slipway.cli import main

# What an export imports in the end, which takes it longer than all else. No xgboost or lightgbm:
# exports ask whether a model has brought them.
_IMPORTED = (
    "mlflow.pyfunc",
    "onnxruntime",
    "onnxscript.function_libs.torch_lib.ops",
    "pandas",
    "skl2onnx",
    "sklearn.pipeline",
    "slipway.commands.export",
    "sympy.combinatorics",
    "torch.export._trace",
    "torch.onnx._internal.exporter._core",
)


def _answer_requests() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _end(_code_of(json.loads(line)))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _code_of(asked: dict[str, Any]) -> int:
    try:
        _run(asked)
    except SystemExit as end:
        return int(end.code or 0)
    except Exception:  # noqa: BLE001 - told as the interpreter tells it
        traceback.print_exc()
        return 1
    return 0


def _end(code: int) -> NoReturn:
    """End without taking the interpreter apart, for which all memory of the imports is copied."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _run(asked: dict[str, Any]) -> None:
    """Become a process as a shell would have started it, and run what is asked for."""
    signal.alarm(asked["timeout"])
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in ((1, asked["out"]), (2, asked["err"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = asked["argv"]
    program = Path(sys.argv[0])
    if program.name == "slipway":
        sys.path[0] = str(program.parent)
        main()
    del sys.argv[0]
    if sys.argv[0] == "-c":
        sys.path[0] = ""
        code = sys.argv.pop(1)
        exec(compile(code, "<string>", "exec"), vars(sys.modules["__main__"]))
    else:
        sys.path[0] = str(Path(sys.argv[0]).parent)
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    for name in _IMPORTED:
        importlib.import_module(name)
    gc.freeze()
    _answer_requests()

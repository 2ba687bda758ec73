"""How much memory a model takes, measured in a process that does nothing else.

``python -m slipway.model.memory FILE`` prints the bytes of its own peak after one run on zeros.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np

from slipway.errors import InvalidModel
from slipway.model import graph as graphs
from slipway.model import ort
from slipway.model.signature import DTYPES, Array, inputs_with_typical
from slipway.model.tensor import Tensor

_KIBI = 1024
_SECONDS = 600


def measured(model: Path) -> int | None:
    """Return the peak in bytes of loading a model and running it once, each free size being 1.

    None where it cannot be measured, such as for a model that takes no zeros.
    """
    done = subprocess.run(
        [sys.executable, "-m", __name__, str(model)],
        capture_output=True,
        text=True,
        check=False,
        timeout=_SECONDS,
        env=dict(os.environ),
    )
    text = done.stdout.strip()
    return int(text) if done.returncode == 0 and text.isdigit() else None


def zeros(tensor: Tensor) -> Array:
    """Return zeros (for text: empty) for an input, or its first typical value.

    Each symbolic dimension is 1.
    """
    shape = tuple(size if isinstance(size, int) else 1 for size in tensor.shape or ())
    dtype = DTYPES[tensor.datatype]
    if tensor.typical:
        return np.full(shape, tensor.typical[0], dtype)
    return np.full(shape, "", dtype) if dtype.kind == "O" else np.zeros(shape, dtype)


def _main(path: Path) -> int:
    inputs = inputs_with_typical(graphs.read(path))
    if not all(tensor.served for tensor in inputs):
        return 1
    try:
        ort.Session(path).run({tensor.name: zeros(tensor) for tensor in inputs})
    except InvalidModel:
        return 1
    print(_peak())
    return 0


def _peak() -> int:
    """Return the most bytes that this process has had resident.

    Linux counts into ``ru_maxrss`` what the process had before it became this program, which is
    all that its parent had; the status of its memory does not.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * _KIBI
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * _KIBI


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1])))

"""How long a run will take, from what was observed: it decides where the run happens.

The first observations are made at load, on a warm model; each run that follows is one, too.

A run that is shorter than the hop to a thread and back is best done on the event loop itself; any
other would keep the probes waiting.
"""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from slipway_runtime.errors import RequestError
from slipway_runtime.inference.batching import Arrays, Key, key_of
from slipway_runtime.inference.model import Model
from slipway_runtime.inference.tensors import Array

_MAX_KEYS: Final = 512
_DECAY: Final = 0.8
_FELT_SECONDS: Final = 0.02
_REPEATS: Final = 3
_REPEATING_SECONDS: Final = 0.1
_REHEARSAL_SECONDS: Final = 0.2


class Predictor:
    """Predicts the time of a run from the key of its shapes and its rows; in seconds."""

    def __init__(self) -> None:
        # By key and magnitude of rows: the estimate, and the last observation.
        self._seen: OrderedDict[tuple[Key, int], tuple[float, float]] = OrderedDict()
        self._largest = 0

    def observe(self, key: Key, rows: int, seconds: float) -> None:
        """Take in how long a run took.

        A shorter one counts by and by. A longer one counts if the one before was longer, too: once
        is an interruption, most likely. But what probes would feel counts at once.
        """
        size = rows.bit_length()
        self._largest = max(self._largest, size)
        entry = (key, size)
        known = self._seen.get(entry)
        if known is None:
            estimate = seconds
        else:
            estimate, before = known
            if seconds < estimate:
                estimate = _DECAY * estimate + (1 - _DECAY) * seconds
            elif seconds >= _FELT_SECONDS:
                estimate = seconds
            else:
                estimate = max(estimate, min(seconds, before))
        self._seen[entry] = (estimate, seconds)
        if known is None and len(self._seen) > _MAX_KEYS:
            self._seen.popitem(last=False)

    def predict(self, key: Key, rows: int) -> float | None:
        """Return the time that a run will take, or None if nothing like it has been seen.

        More rows than any seen are taken to need proportionally more, fewer as much as these.
        """
        size = rows.bit_length()
        for smaller in range(size, 0, -1):
            known = self._seen.get((key, smaller))
            if known is not None:
                return known[0] * 2 ** (size - smaller)
        for larger in range(size + 1, self._largest + 1):
            known = self._seen.get((key, larger))
            if known is not None:
                return known[0]
        return None


def work_clock(model: Model) -> Callable[[], float]:
    """Return the clock, in seconds, that tells how long a model's runs work.

    That is the thread's own where the work is the processor's: what the thread waits for the
    interpreter's lock must not make a short run look long. Elsewhere it is the time that passes.
    """
    return time.thread_time if model.on_cpu else time.perf_counter


def measure(
    model: Model, predictor: Predictor, inputs: Arrays, at_least: int = 2
) -> tuple[dict[str, Array], float]:
    """Run a warm model up to three times, fewer where that takes long, and tell the predictor.

    Returns the outputs and the time that passed in the fastest run, in seconds. The predictor gets
    the work of the least run, and nothing of a single one: the first run of a shape is not typical.

    Raises:
        RequestError: what `Model.infer` raises.
    """
    clock = work_clock(model)
    took: list[float] = []
    worked: list[float] = []
    outputs: dict[str, Array] = {}
    while len(took) < at_least or (len(took) < _REPEATS and sum(took) < _REPEATING_SECONDS):
        began, began_work = time.perf_counter(), clock()
        outputs = model.infer(inputs)
        worked.append(clock() - began_work)
        took.append(time.perf_counter() - began)
    if len(worked) > 1:
        key, rows = key_of(model.signature, inputs, None)
        predictor.observe(key, rows or 1, min(worked))
    return outputs, min(took)


def rehearse(model: Model, predictor: Predictor, requests: Iterable[Arrays]) -> None:
    """Measure typical requests on a warm model, one of each shape, until a moment has passed."""
    known: set[tuple[Key, int | None]] = set()
    ends = time.perf_counter() + _REHEARSAL_SECONDS
    for inputs in requests:
        shape = key_of(model.signature, inputs, None)
        if shape not in known:
            known.add(shape)
            with contextlib.suppress(RequestError):  # It tells no time then; to check is not meant.
                measure(model, predictor, inputs)
        if time.perf_counter() >= ends:
            return

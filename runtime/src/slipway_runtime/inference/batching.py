"""Batches: which requests may run together, how they are merged, and how answers are cut apart.

Rows are stacked in the order of the requests and cut apart in the same order. Nothing is ever
padded: only requests whose rows have equal shapes share a batch.
"""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from slipway_runtime.artifact.manifest import Tolerance
from slipway_runtime.errors import RequestError
from slipway_runtime.inference import bfloat16
from slipway_runtime.inference.golden import DEFAULT_TOLERANCE
from slipway_runtime.inference.model import Model
from slipway_runtime.inference.tensors import BF16, Array, Signature, TensorSpec

Key: TypeAlias = tuple[object, ...]
Arrays: TypeAlias = Mapping[str, Array]

AUTO_ROWS: Final = 32

_TRIAL_ROWS: Final = 8
_INNER_SIZES: Final = (3, 1)
_REPEATS: Final = 3
_MAX_ELEMENTS: Final = 1_000_000
_WORTH_MEASURING_SECONDS: Final = 0.1
_WORTH_BATCHING: Final = 0.8

logger = logging.getLogger(__name__)


class BatchMismatchError(Exception):
    """A merged run gave outputs that cannot be cut apart by rows."""


@dataclass(frozen=True)
class BatchLimits:
    """How many rows may share a run (1 = never share), and how long the first may wait (s)."""

    max_rows: int = 1
    max_delay: float = 0.0


def key_of(
    signature: Signature, inputs: Arrays, outputs: Sequence[str] | None
) -> tuple[Key, int | None]:
    """Return what requests must have in common to share a run, and the rows of this one.

    The rows are None where the inputs do not have equally many, or none: such a request runs
    alone, and its key is its shapes. Who names all outputs in the model's order wants what those
    get who name none.
    """
    wanted = None if outputs is None or outputs == signature.output_names else tuple(outputs)
    shapes = [inputs[spec.name].shape for spec in signature.inputs]
    rows = shapes[0][0] if shapes and shapes[0] else 0
    if rows and all(shape and shape[0] == rows for shape in shapes):
        return (wanted, *(shape[1:] for shape in shapes)), rows
    return (wanted, None, *shapes), None


def merge(parts: Sequence[Arrays]) -> dict[str, Array]:
    """Return the inputs of all parts, stacked along dimension 0."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def cut(outputs: Arrays, rows: Sequence[int]) -> list[dict[str, Array]]:
    """Return the outputs of each part, which had so many rows each.

    Raises:
        BatchMismatchError: an output does not have a row for each row of the inputs.
    """
    total = sum(rows)
    for name, array in outputs.items():
        if array.ndim == 0 or array.shape[0] != total:
            raise BatchMismatchError(
                f"output {name!r} has the shape {array.shape} for {total} rows"
            )
    parts: list[dict[str, Array]] = []
    start = 0
    for count in rows:
        parts.append({name: array[start : start + count] for name, array in outputs.items()})
        start += count
    return parts


def limits_for(
    model: Model,
    max_rows: int,
    max_delay: float,
    *,
    hint: int | None = None,
    typical: Sequence[Arrays] = (),
    tolerance: Tolerance = DEFAULT_TOLERANCE,
) -> BatchLimits:
    """Return the limits for a model: ``max_rows`` of 0 batches where that gains.

    It batches up to ``hint`` rows then, of the model's package, or else up to 32. ``typical`` are
    single rows to try, such as those of golden samples; fewer than two are made up.

    A model batches only if dimension 0 of all its inputs and outputs is symbolic and a trial shows
    that rows do not depend on their neighbours. Where nobody asked for it, a batch must also take
    less time than its rows one by one.
    """
    if (max_rows or hint) == 1:
        return BatchLimits()
    reason = _refusal(model) or _Trial(model, tolerance, must_gain=max_rows == 0).reason(typical)
    if reason is not None:
        log = logger.info if max_rows == 0 else logger.warning
        log("requests are not batched: %s", reason)
        return BatchLimits()
    return BatchLimits(max_rows or hint or AUTO_ROWS, max_delay)


def _refusal(model: Model) -> str | None:
    """Return why the signature does not allow batches, or None."""
    if not model.signature.inputs:
        return "the model has no inputs"
    for spec in (*model.signature.inputs, *model.signature.outputs):
        if not spec.batchable:
            return f"dimension 0 of {spec.name!r} {spec.wire_shape} is not symbolic"
    return None


@dataclass(frozen=True)
class _Trial:
    """Runs rows one by one and together, to see whether they may share a run, and gain by it."""

    model: Model
    tolerance: Tolerance
    must_gain: bool

    def reason(self, typical: Sequence[Arrays]) -> str | None:
        """Return why rows must not be batched, or None."""
        failure = ""
        elements = _elements(self.model.signature)
        if self.must_gain and elements > _MAX_ELEMENTS:
            # Nobody asked for batches: do not risk the memory of many large rows.
            return f"a row has {elements} elements (SLIPWAY_MAX_BATCH_SIZE sets it)"
        for rows in self._candidates(typical):
            try:
                return self._compare(rows)
            except RequestError as error:
                failure = error.message
            except BatchMismatchError as error:
                return str(error)
        return f"trial rows cannot be run: {failure}"

    def _candidates(self, typical: Sequence[Arrays]) -> Iterator[Sequence[Arrays]]:
        if len(typical) > 1:
            yield list(itertools.islice(itertools.cycle(typical), _TRIAL_ROWS))
            return
        for inner in _INNER_SIZES:
            yield [_row(self.model.signature, number, inner) for number in range(_TRIAL_ROWS)]

    def _compare(self, rows: Sequence[Arrays]) -> str | None:
        infer = self.model.infer
        pair = rows[:2]
        _, seconds = _timed(lambda: infer(rows[0]), 1)
        singles = [infer(row) for row in pair]
        reason = self._difference(singles, infer(merge(pair)))
        if reason is not None or (seconds > _WORTH_MEASURING_SECONDS and not self.must_gain):
            return reason
        if seconds > _WORTH_MEASURING_SECONDS:
            return f"one row takes {seconds:.2g} s (SLIPWAY_MAX_BATCH_SIZE sets it)"
        singles = [infer(row) for row in rows]
        together = merge(rows)
        outputs, batch_seconds = _timed(lambda: infer(together), _REPEATS)
        reason = self._difference(singles, outputs)
        if reason is not None or not self.must_gain:
            return reason
        _, seconds = _timed(lambda: infer(rows[0]), _REPEATS)
        if batch_seconds > _WORTH_BATCHING * seconds * len(rows):
            return (
                f"{len(rows)} rows take {batch_seconds * 1e3:.3g} ms together and"
                f" {seconds * len(rows) * 1e3:.3g} ms one by one (SLIPWAY_MAX_BATCH_SIZE sets it)"
            )
        return None

    def _difference(self, singles: Sequence[Arrays], outputs: Arrays) -> str | None:
        for number, part in enumerate(cut(outputs, [1] * len(singles))):
            for name, got in part.items():
                if not self._equal(self.model.output_spec(name), got, singles[number][name]):
                    return f"output {name!r} of a row depends on the other rows of its batch"
        return None

    def _equal(self, spec: TensorSpec, one: Array, other: Array) -> bool:
        if one.shape != other.shape:
            return False
        if spec.datatype.name == BF16:
            one, other = bfloat16.widen(one), bfloat16.widen(other)
        if spec.datatype.kind == "f":
            within = {"rtol": self.tolerance.rtol, "atol": self.tolerance.atol}
            return bool(np.allclose(one, other, **within, equal_nan=True))
        return bool(np.array_equal(one, other))


def _timed(run: Callable[[], dict[str, Array]], times: int) -> tuple[dict[str, Array], float]:
    """Return the outputs of the last run and the time of the fastest, in seconds."""
    best, outputs = float("inf"), dict[str, Array]()
    for _ in range(times):
        started = time.perf_counter()
        outputs = run()
        best = min(best, time.perf_counter() - started)
    return outputs, best


def _elements(signature: Signature) -> int:
    """Return how many elements a row has at least: symbolic sizes count 1."""
    return sum(
        math.prod(size for size in (spec.shape or ())[1:] if size is not None)
        for spec in signature.inputs
    )


def _row(signature: Signature, number: int, inner: int) -> dict[str, Array]:
    """Return one row of inputs, different for each number; symbolic sizes behind it are equal."""
    random = np.random.default_rng(number)
    row: dict[str, Array] = {}
    for spec in signature.inputs:
        shape = (1, *(inner if size is None else size for size in (spec.shape or ())[1:]))
        match spec.datatype.kind:
            case "f":
                values = random.random(shape, dtype=np.float32)
                row[spec.name] = (
                    bfloat16.narrow(values)
                    if spec.datatype.name == BF16
                    else values.astype(spec.datatype.dtype)
                )
            case "O":
                texts = np.empty(shape, dtype=np.object_)
                texts[...] = f"row {number}"
                row[spec.name] = texts
            case _:
                # 0 and 1 are valid for nearly every index, token and flag.
                row[spec.name] = random.integers(0, 2, shape).astype(spec.datatype.dtype)
    return row

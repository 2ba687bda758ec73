"""The trial at load: whether rows may share a run, up to how many, and whether that gains.

Rows run alone and together, and what comes must agree. Two rows are tried, eight, and as many as
will share a run at most: a size that was never tried is never used.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from slipway_runtime.artifact.manifest import Tolerance
from slipway_runtime.errors import RequestError
from slipway_runtime.inference import bfloat16
from slipway_runtime.inference.batching import Arrays, BatchLimits, BatchMismatchError, cut, merge
from slipway_runtime.inference.golden import DEFAULT_TOLERANCE
from slipway_runtime.inference.model import Model
from slipway_runtime.inference.tensors import BF16, Array, Signature, TensorSpec
from slipway_runtime.inference.timing import Predictor, measure
from slipway_runtime.inference.typical import filled

AUTO_ROWS: Final = 32

_PAIR: Final = 2
_TRIAL_ROWS: Final = 8
_MOST_ROWS: Final = 1024
_MOST_BYTES: Final = 256 * 1024 * 1024
_MOST_SECONDS: Final = 5.0
_INNER_SIZES: Final = (3, 1)
_MAX_ELEMENTS: Final = 1_000_000
# What rows do to each other may show only where one is large, such as a clip by the largest value
# of a run; a model that cannot run on such numbers is tried on ordinary ones.
_SCALES: Final = (1.0, 1e4, -1.0, 100.0, 1.0, -100.0, 10.0, -1e4)
_ORDINARY: Final = (1.0,) * _TRIAL_ROWS
_SLOW_SECONDS: Final = 0.1
_WORTH_BATCHING: Final = 0.8
_SET_BY: Final = " (SLIPWAY_MAX_BATCH_SIZE, spec.runtime.batching.maxBatchSize, sets it)"

logger = logging.getLogger(__name__)


class _NotBatchedError(Exception):
    """Rows must not share a run, or gain nothing by it; the message says why."""


def limits_for(
    model: Model,
    max_rows: int,
    max_delay: float,
    *,
    hint: int | None = None,
    typical: Sequence[Arrays] = (),
    tolerance: Tolerance = DEFAULT_TOLERANCE,
    predictor: Predictor | None = None,
    mixing: str | None = None,
) -> BatchLimits:
    """Return the limits for a warm model: ``max_rows`` of 0 batches where that gains.

    It batches up to ``hint`` rows then, of the model's package, or else up to 32. ``typical`` are
    single rows to try, such as those of golden samples; fewer than two different ones are made up.
    ``predictor`` hears how long the runs took. ``mixing`` says why rows may depend on each other,
    where the model's operators tell that.

    A model batches only if dimension 0 of all its inputs and outputs is symbolic and a trial shows
    that rows do not depend on their neighbours, and only up to as many rows as were tried. Where
    nobody asked for it, a batch must also take less time than its rows one by one.
    """
    asked = max_rows or hint or AUTO_ROWS
    if asked == 1:
        return BatchLimits()
    log = logger.info if max_rows == 0 else logger.warning
    trial = _Trial(model, tolerance, predictor or Predictor(), must_gain=max_rows == 0)
    try:
        if mixing is not None:
            raise _NotBatchedError(mixing)
        _check_signature(model.signature)
        rows = trial.most_rows(asked, typical)
    except (_NotBatchedError, BatchMismatchError) as reason:
        log("requests are not batched: %s", reason)
        return BatchLimits()
    if rows < asked:
        log("up to %d rows share a run, and not %d, which are too many to try", rows, asked)
    return BatchLimits(rows, max_delay)


def _check_signature(signature: Signature) -> None:
    """Raise _NotBatchedError where the signature does not allow batches."""
    if not signature.inputs:
        raise _NotBatchedError("the model has no inputs")
    for spec in (*signature.inputs, *signature.outputs):
        if not spec.batchable:
            raise _NotBatchedError(
                f"dimension 0 of {spec.name!r} {spec.wire_shape} is not symbolic"
            )


class _Rows(NamedTuple):
    """Single rows of inputs; those made up lie between 0 and their scale."""

    inputs: Sequence[Arrays]
    scales: Sequence[float]

    def first(self, count: int) -> _Rows:
        """Return so many of them."""
        return _Rows(self.inputs[:count], self.scales[:count])


class _Known(NamedTuple):
    """Inputs of rows, stacked, and the outputs that each row has when it runs alone."""

    inputs: Arrays
    outputs: Sequence[Arrays]
    scales: Sequence[float]

    @property
    def row_bytes(self) -> int:
        """The bytes of a row's inputs and outputs."""
        outputs = self.outputs[0].values()
        ins = sum(array.nbytes for array in self.inputs.values()) // len(self.outputs)
        return ins + sum(array.nbytes for array in outputs)


@dataclass(frozen=True)
class _Trial:
    """Runs rows one by one and together, to see whether they may share a run, and gain by it."""

    model: Model
    tolerance: Tolerance
    predictor: Predictor
    must_gain: bool

    def most_rows(self, asked: int, typical: Sequence[Arrays]) -> int:
        """Return how many rows may share a run: as many as asked for, or as were tried.

        Raises:
            _NotBatchedError: rows depend on each other, or gain nothing, or cannot be run.
            BatchMismatchError: outputs cannot be cut apart by rows.
        """
        failure = ""
        elements = _elements(self.model.signature)
        if self.must_gain and elements > _MAX_ELEMENTS:
            # Nobody asked for batches: do not risk the memory of many large rows.
            raise _NotBatchedError(f"a row has {elements} elements{_SET_BY}")
        for rows in self._candidates(typical):
            try:
                return self._try(rows, asked)
            except RequestError as error:
                failure = error.message
        raise _NotBatchedError(f"trial rows cannot be run: {failure}")

    def _candidates(self, typical: Sequence[Arrays]) -> Iterator[_Rows]:
        different = _different(typical)
        if len(different) > 1:
            yield _Rows(different, _ORDINARY).first(_TRIAL_ROWS)
            return
        free_size = self.model.free_size
        for scales in (_SCALES, _ORDINARY):
            for inner in _INNER_SIZES if free_size == 1 else (free_size,):
                made = [
                    _row(self.model, number, inner, scale) for number, scale in enumerate(scales)
                ]
                yield _Rows(made, scales)

    def _try(self, rows: _Rows, asked: int) -> int:
        _, alone = measure(self.model, self.predictor, rows.inputs[0])
        slow = alone > _SLOW_SECONDS
        if slow and self.must_gain:
            raise _NotBatchedError(f"one row takes {alone:.2g} s{_SET_BY}")
        known = self._run_alone(rows.first(_PAIR))
        tried = _PAIR
        together = self._run_together(known, tried, at_least=1)
        if not slow:
            known = self._run_alone(rows)
        if len(_different(known.outputs)) == 1:
            raise _NotBatchedError(
                "all trial rows have the same outputs, so they cannot show whether rows depend on"
                " each other (golden samples with different outputs can)"
            )
        if not slow:
            tried = min(asked, _TRIAL_ROWS)
            together = self._run_together(known, tried)
            if self.must_gain and together > _WORTH_BATCHING * alone * tried:
                raise _NotBatchedError(
                    f"{tried} rows take {together * 1e3:.3g} ms together and"
                    f" {alone * tried * 1e3:.3g} ms one by one{_SET_BY}"
                )
        most = _worth_trying(asked, known.row_bytes, together / tried)
        if most <= tried:
            return tried
        try:
            self._run_together(known, most, at_least=1)
        except RequestError as error:
            logger.warning("a trial of %d rows fails: %s", most, error.message)
            return tried
        return most

    def _run_alone(self, rows: _Rows) -> _Known:
        outputs = [self.model.infer(row) for row in rows.inputs]
        return _Known(merge(rows.inputs), outputs, rows.scales)

    def _run_together(self, known: _Known, count: int, at_least: int = 2) -> float:
        """Run so many of the known rows together; return the seconds of the fastest run.

        Raises:
            _NotBatchedError: a row has other outputs than alone.
        """
        numbers = _mixed(len(known.outputs), count)
        inputs = {name: array[numbers] for name, array in known.inputs.items()}
        outputs, seconds = measure(self.model, self.predictor, inputs, at_least)
        (together,) = cut(outputs, [count])
        for number, alone in enumerate(known.outputs):
            for name, array in together.items():
                spec = self.model.output_spec(name)
                scale = known.scales[number]
                if not self._equal(spec, array[numbers == number], alone[name], scale):
                    raise _NotBatchedError(
                        f"output {name!r} of a row depends on the other rows of a batch of {count}"
                    )
        return seconds

    def _equal(self, spec: TensorSpec, together: Array, alone: Array, scale: float) -> bool:
        """Return whether each of these rows, of one input, equals the one that ran alone."""
        if alone.shape != (1, *together.shape[1:]):
            return False
        if spec.datatype.name == BF16:
            together, alone = bfloat16.widen(together), bfloat16.widen(alone)
        if spec.datatype.kind == "f":
            return self._close(together, alone, abs(scale))
        return bool(np.all(together == alone))

    def _close(self, together: Array, alone: Array, scale: float) -> bool:
        """Return whether fractions are within the tolerance, for large inputs in proportion.

        What large terms that cancel out leave differs by more than the tolerance of itself.
        """
        rtol, atol = self.tolerance.rtol, self.tolerance.atol
        if scale > 1:
            finite = np.abs(alone[np.isfinite(alone)].astype(np.float64))
            atol = atol * scale + rtol * float(np.max(finite, initial=0.0))
        return bool(np.allclose(together, alone, rtol=rtol, atol=atol, equal_nan=True))


def _different(rows: Sequence[Arrays]) -> list[Arrays]:
    """Return the rows without those that equal an earlier one."""
    found: list[Arrays] = []
    for row in rows:
        if not any(all(_same(row[name], other[name]) for name in row) for other in found):
            found.append(row)
    return found


def _same(one: Array, other: Array) -> bool:
    if one.dtype == np.object_:
        return np.array_equal(one, other)
    # By bytes for NaN, by value for zeros of either sign.
    return one.shape == other.shape and (
        one.tobytes() == other.tobytes() or np.array_equal(one, other)
    )


def _worth_trying(asked: int, row_bytes: int, row_seconds: float) -> int:
    """Return how many rows to try: as many as asked for, or a power of two that can be borne."""
    bearable = min(
        _MOST_ROWS, _MOST_BYTES // max(1, row_bytes), int(_MOST_SECONDS / max(1e-9, row_seconds))
    )
    return asked if asked <= bearable else 1 << max(1, bearable).bit_length() - 1


def _mixed(known: int, count: int) -> Array:
    """Return which of so many known rows is in each place of a batch.

    At first each comes in its turn. What follows has no period, so that a row in the place of any
    other shows.
    """
    numbers = np.arange(count) % known
    numbers[known:] = np.random.default_rng(count).integers(0, known, max(0, count - known))
    return numbers


def _elements(signature: Signature) -> int:
    """Return how many elements a row has at least: symbolic sizes count 1."""
    return sum(
        math.prod(size for size in (spec.shape or ())[1:] if size is not None)
        for spec in signature.inputs
    )


def _row(model: Model, number: int, inner: int, scale: float) -> dict[str, Array]:
    """Return one row of inputs, different for each number; symbolic sizes behind it are equal.

    Fractions lie between 0 and ``scale``; inputs with typical values hold one of these.
    """
    random = np.random.default_rng(number)
    row: dict[str, Array] = {}
    for spec in model.signature.inputs:
        shape = (1, *(inner if size is None else size for size in (spec.shape or ())[1:]))
        if spec.name in model.typical:
            row[spec.name] = filled(model.typical[spec.name], shape, number)
            continue
        match spec.datatype.kind:
            case "f":
                values = np.asarray(random.random(shape, dtype=np.float32) * np.float32(scale))
                row[spec.name] = (
                    bfloat16.narrow(values)
                    if spec.datatype.name == BF16
                    else values.astype(spec.datatype.dtype)
                )
            case "O":
                # Of several lengths: some operators make all texts of a run as long as its longest.
                texts = np.empty(shape, dtype=np.object_)
                texts[...] = "row" + f" {number}, {number}" * (number + 1)
                row[spec.name] = texts
            case _:
                # 0 and 1 are valid for nearly every index, token and flag.
                row[spec.name] = random.integers(0, 2, shape).astype(spec.datatype.dtype)
    return row

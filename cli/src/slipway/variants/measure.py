"""Two models side by side: latency in pairs, and how far their outputs are apart."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slipway.errors import InvalidArguments
from slipway.model.signature import Array

Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]

_SHORTEST_SECONDS = 0.002
_WARM_UP = 3
_MATRIX = 2
_SAME = 1e-5
_FEWEST_ROWS = 8  # of which a column's correlation tells something


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one run in each round."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median."""
        return statistics.median(self.rounds)

    @property
    def spread(self) -> tuple[float, float]:
        """The quartiles, between which half of the rounds lie."""
        low, _, high = statistics.quantiles(self.rounds, n=4, method="inclusive")
        return low, high

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        low, high = self.spread
        return {
            "medianMs": self.median,
            "quartilesMs": [low, high],
            "roundsMs": list(self.rounds),
        }


@dataclass(frozen=True)
class SpeedUp:
    """How many times as fast a variant is: the median of the rounds, and its 95 % interval."""

    median: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Agreement:
    """How an output of a variant agrees with the original's.

    ``cosine`` is the mean over rows, ``lowest_cosine`` that of the worst row. Where a row is one
    number it has no direction: then both are that of all rows, from their mean in the original
    (1 at best; 0 where a variant knows nothing but the mean). ``top1`` is the share of rows whose
    largest element (for whole numbers: every element) is the same, None where an output has no
    classes. ``commonest`` is the share of rows of the original's commonest class: a variant that
    always names it agrees as often. ``lowest_column`` is the worst column of a matrix, each taken
    from its mean in the original, since a large column hides what becomes of a small one in the
    direction of a row. ``lost`` is how many elements are not finite where the original's are.
    """

    output: str
    max_absolute: float
    cosine: float | None
    lowest_cosine: float | None
    top1: float | None
    lost: int = 0
    commonest: float | None = None
    lowest_column: float | None = None


def latencies(runs: Sequence[Callable[[], object]], rounds: int) -> list[Latency]:
    """Time all in each round, every other round backwards, so that drift meets all alike.

    A run shorter than 2 ms is repeated within a round; times are of one.
    """
    repeats: list[int] = []
    for run in runs:
        for _ in range(_WARM_UP):
            run()
        repeats.append(max(1, math.ceil(_SHORTEST_SECONDS / max(_seconds(run, 1), 1e-9))))
    times: list[list[float]] = [[] for _ in runs]
    for number in range(rounds):
        order = range(len(runs)) if number % 2 == 0 else range(len(runs) - 1, -1, -1)
        for index in order:
            times[index].append(1000 * _seconds(runs[index], repeats[index]) / repeats[index])
    return [Latency(tuple(values)) for values in times]


def speed_up(original: Latency, variant: Latency) -> SpeedUp:
    """Compare round by round; the interval is that of the sign test, so it supposes no shape."""
    ratios = sorted(a / b for a, b in zip(original.rounds, variant.rounds, strict=True))
    count = len(ratios)
    rank = max(0, math.floor(count / 2 - 0.98 * math.sqrt(count)))
    return SpeedUp(statistics.median(ratios), ratios[rank], ratios[count - 1 - rank])


def agreements(
    original: Run, variant: Run, batches: Sequence[Mapping[str, Array]]
) -> list[Agreement]:
    """Compare the outputs over all batches; text is left out."""
    pairs: dict[str, list[tuple[Array, Array]]] = {}
    for feeds in batches:
        wanted, found = original(feeds), variant(feeds)
        for name, array in wanted.items():
            if array.dtype.kind in "fiub":
                pairs.setdefault(name, []).append((array, found[name]))
    return [_agreement(name, parts) for name, parts in pairs.items()]


@dataclass(frozen=True)
class Accuracy:
    """Shares of rows whose class is the labelled one: of all, and the mean over the classes."""

    rows: float
    classes: float


def accuracy(run: Run, batches: Sequence[Mapping[str, Array]], labels: Array) -> Accuracy:
    """Compare the first output with classes with the labelled ones.

    Raises:
        InvalidArguments: no output has classes.
    """
    answers = [_classes(run(feeds)) for feeds in batches]
    found: Array = np.concatenate(answers)
    if found.shape != labels.shape:
        raise InvalidArguments(f"{len(labels)} labels are given for {len(found)} answers")
    right = found == labels
    by_class = [float(right[labels == label].mean()) for label in np.unique(labels)]
    return Accuracy(float(right.mean()), statistics.fmean(by_class))


def _classes(outputs: Mapping[str, Array]) -> Array:
    for array in outputs.values():
        if array.dtype.kind in "iu" and array.ndim == 1:
            return array
        if array.dtype.kind == "f" and array.ndim == _MATRIX and array.shape[1] > 1:
            return _largest(array)
    raise InvalidArguments(
        "no output has classes, so labels cannot be compared",
        "classes are FP [batch, classes] or whole numbers [batch]",
    )


def _agreement(name: str, parts: Sequence[tuple[Array, Array]]) -> Agreement:
    apart = max(
        (float(np.max(np.abs(_double(a) - _double(b)), initial=0.0)) for a, b in parts), default=0.0
    )
    apart = apart if math.isfinite(apart) else math.inf
    if parts[0][0].dtype.kind in "iub":
        same = np.concatenate([np.atleast_1d(np.asarray(a == b)).ravel() for a, b in parts])
        return Agreement(name, apart, None, None, float(same.mean()))
    if all(a.ndim <= 1 or math.prod(a.shape[1:]) == 1 for a, _ in parts):
        one, other = (np.concatenate([np.ravel(pair[i]) for pair in parts]) for i in (0, 1))
        cosines = np.asarray([_correlation(_double(one), _double(other))])
    else:
        cosines = np.concatenate([_cosines(a, b) for a, b in parts])
    top1 = commonest = column = None
    if parts[0][0].ndim == _MATRIX and parts[0][0].shape[1] > 1:
        one, other = (np.concatenate([pair[i] for pair in parts]) for i in (0, 1))
        classes = _largest(one)
        agree: Array = np.asarray(classes == _largest(other))
        top1 = float(agree.mean())
        counts: Array = np.unique(classes, return_counts=True)[1]
        commonest = float(counts.max() / len(classes))
        if len(one) >= _FEWEST_ROWS:
            left, right = _double(one), _double(other)
            places = range(left.shape[1])
            column = min(_correlation(left[:, place], right[:, place]) for place in places)
    lost = sum(int(np.count_nonzero(np.isfinite(a) & ~np.isfinite(b))) for a, b in parts)
    mean, lowest = float(cosines.mean()), float(cosines.min())
    return Agreement(name, apart, mean, lowest, top1, lost, commonest, column)


def _cosines(left: Array, right: Array) -> Array:
    rows = len(left) if left.ndim > 1 else 1
    one, other = _double(left).reshape(rows, -1), _double(right).reshape(rows, -1)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Array = (one * other).sum(axis=1) / lengths
    # Rows of zeros have no direction: they agree with rows of zeros alone.
    found = np.where(lengths > 0, found, (one == other).all(axis=1))
    return np.asarray(np.nan_to_num(found, nan=0.0))


def _correlation(one: Array, other: Array) -> float:
    if np.allclose(one, other, rtol=_SAME, atol=_SAME, equal_nan=True):
        return 1.0  # what hardly varies has no direction either
    mean = np.mean(one)
    (found,) = _cosines((one - mean)[None], (other - mean)[None])
    return float(found)


def _largest(array: Array) -> Array:
    return np.asarray(np.argmax(array, axis=1))


def _double(array: Array) -> Array:
    return array.astype(np.float64)


def _seconds(run: Callable[[], object], times: int) -> float:
    begun = time.perf_counter()
    for _ in range(times):
        run()
    return time.perf_counter() - begun

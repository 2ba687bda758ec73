"""Whether a variant is kept. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slipway.variants.measure import Accuracy, Agreement, SpeedUp


@dataclass(frozen=True)
class Bounds:
    """What a variant must hold.

    ``max_size`` is its size as a share of the original's, itself excluded where it is 1;
    ``min_speed_up`` is held by the lower end of the 95 % interval; each output holds ``min_top1``,
    where the original names more than one class, or both ``min_cosine`` and ``min_column``;
    ``max_accuracy_loss``, and ``max_class_loss`` for the mean over classes, count with labelled
    data.
    """

    max_size: float = 1.0
    min_speed_up: float = 1.0
    min_top1: float = 0.99
    min_cosine: float = 0.999
    min_column: float = 0.9
    max_accuracy_loss: float = 0.01
    max_class_loss: float = 0.05


@dataclass(frozen=True)
class Measured:
    """What was found of a variant; sizes in bytes, accuracies as shares."""

    size: int
    original_size: int
    speed_up: SpeedUp
    agreements: Sequence[Agreement]
    accuracy: Accuracy | None = None
    original_accuracy: Accuracy | None = None


def failures(measured: Measured, bounds: Bounds) -> list[str]:
    """Return one sentence for each bound that is missed; none where the variant is kept."""
    found: list[str] = []
    share = measured.size / measured.original_size
    if share > bounds.max_size or (share == bounds.max_size == 1.0):
        found.append(f"its size is {share:.0%} of the original's, above {bounds.max_size:.0%}")
    speed = measured.speed_up
    if speed.lower < bounds.min_speed_up:
        found.append(
            f"it is {speed.median:.2f} times as fast ({speed.lower:.2f} to {speed.upper:.2f} with"
            f" 95 % confidence), and at least {bounds.min_speed_up:g} is wanted of the lower end"
            f"{'; more --rounds tell more' if speed.upper >= bounds.min_speed_up else ''}"
        )
    found += [text for item in measured.agreements if (text := _apart(item, bounds))]
    if measured.accuracy is not None and measured.original_accuracy is not None:
        before, after = measured.original_accuracy, measured.accuracy
        if before.rows - after.rows > bounds.max_accuracy_loss:
            found.append(
                f"accuracy falls from {before.rows:.2%} to {after.rows:.2%}, by more than"
                f" {bounds.max_accuracy_loss:.2%}"
            )
        if before.classes - after.classes > bounds.max_class_loss:
            found.append(
                f"accuracy as the mean over classes, rare ones too, falls from"
                f" {before.classes:.2%} to {after.classes:.2%}, by more than"
                f" {bounds.max_class_loss:.2%}"
            )
    return found


def slower(measured: Measured) -> bool:
    """Return whether a variant is slower than the original beyond doubt."""
    return measured.speed_up.upper < 1


def _apart(item: Agreement, bounds: Bounds) -> str:
    if item.lost:
        return f"{item.output!r} has {item.lost} values that are not finite, the original's are"
    # Where the original names one class nearly always, so does a variant that knows nothing else.
    telling = item.commonest is None or item.commonest < bounds.min_top1
    by_class = telling and item.top1 is not None and item.top1 >= bounds.min_top1
    same_way = item.cosine is not None and item.cosine >= bounds.min_cosine
    by_column = item.lowest_column is None or item.lowest_column >= bounds.min_column
    if by_class or (same_way and by_column):
        return ""
    told: list[str] = []
    if item.top1 is not None and telling:
        told.append(f"top-1 agreement {item.top1:.2%} (below {bounds.min_top1:.0%})")
    elif item.commonest is not None:
        told.append(f"one class in {item.commonest:.2%} of rows, so that agreement tells nothing")
    if item.cosine is not None and not same_way:
        told.append(f"cosine {item.cosine:.5f} (below {bounds.min_cosine:g})")
    if item.lowest_column is not None and not by_column:
        told.append(
            f"correlation {item.lowest_column:.5f} of the worst column (below"
            f" {bounds.min_column:g})"
        )
    return f"{item.output!r} computes something else: {' and '.join(told)}"

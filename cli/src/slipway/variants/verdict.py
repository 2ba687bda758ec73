"""Whether a variant is kept. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slipway.variants.measure import Agreement, SpeedUp


@dataclass(frozen=True)
class Bounds:
    """What a variant must hold.

    ``max_size`` is its size as a share of the original's, itself excluded where it is 1;
    ``min_speed_up`` is held by the lower end of the 95 % interval; each output holds one of
    ``min_top1`` and ``min_cosine``; ``max_accuracy_loss`` counts with labelled data.
    """

    max_size: float = 1.0
    min_speed_up: float = 1.0
    min_top1: float = 0.99
    min_cosine: float = 0.999
    max_accuracy_loss: float = 0.01


@dataclass(frozen=True)
class Measured:
    """What was found of a variant; sizes in bytes, accuracies as shares."""

    size: int
    original_size: int
    speed_up: SpeedUp
    agreements: Sequence[Agreement]
    accuracy: float | None = None
    original_accuracy: float | None = None


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
        loss = measured.original_accuracy - measured.accuracy
        if loss > bounds.max_accuracy_loss:
            found.append(
                f"accuracy falls from {measured.original_accuracy:.2%} to {measured.accuracy:.2%},"
                f" by more than {bounds.max_accuracy_loss:.2%}"
            )
    return found


def slower(measured: Measured) -> bool:
    """Return whether a variant is slower than the original beyond doubt."""
    return measured.speed_up.upper < 1


def _apart(item: Agreement, bounds: Bounds) -> str:
    if item.lost:
        return f"{item.output!r} has {item.lost} values that are not finite, the original's are"
    by_class = item.top1 is not None and item.top1 >= bounds.min_top1
    by_direction = item.cosine is not None and item.cosine >= bounds.min_cosine
    if by_class or by_direction:
        return ""
    told = [
        f"top-1 agreement {item.top1:.2%} (below {bounds.min_top1:.0%})"
        if item.top1 is not None
        else "",
        f"cosine {item.cosine:.5f} (below {bounds.min_cosine:g})"
        if item.cosine is not None
        else "",
    ]
    return f"{item.output!r} computes something else: {' and '.join(filter(None, told))}"

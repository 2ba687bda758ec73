"""Classes that a computation chooses, where two are as likely as each other. Pure.

Which of them comes first is then up to the last bit of a sum, and no choice is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slipway.model.signature import Array
from slipway.validation.compare import Tolerance


@dataclass(frozen=True)
class Choice:
    """An output that names the class of which another output, ``scores``, is largest.

    ``scores`` is [batch, classes], in the order of ``classes``.
    """

    scores: str
    classes: Sequence[Any]


def settled(
    actual: Mapping[str, Array],
    wanted: Mapping[str, Array],
    choices: Mapping[str, Choice],
    tolerance: Tolerance,
) -> tuple[dict[str, Array], int]:
    """Return the outputs with the wanted class where it ties with the one found, and how many."""
    outputs, count = dict(actual), 0
    for name, choice in choices.items():
        if name not in actual or actual[name].shape != wanted[name].shape:
            continue
        place = {value: at for at, value in enumerate(choice.classes)}
        agreed = actual[name].copy()
        for row in np.flatnonzero(actual[name] != wanted[name]):
            at, scores = place.get(actual[name][row]), wanted[choice.scores][row]
            # Each of the two may be off by the tolerance.
            best = float(np.max(scores))
            limit = 2 * (tolerance.absolute + tolerance.relative * abs(best))
            if at is not None and best - float(scores[at]) <= limit:
                agreed[row] = wanted[name][row]
                count += 1
        outputs[name] = agreed
    return outputs, count

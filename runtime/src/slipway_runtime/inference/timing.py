"""How long a run will take, from what was observed: it decides where the run happens.

A run that is shorter than the hop to a thread and back is best done on the event loop itself; any
other would keep the probes waiting.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Final

from slipway_runtime.inference.batching import Key

_MAX_KEYS: Final = 512
_DECAY: Final = 0.8
_FELT_SECONDS: Final = 0.02
_MAX_SCANNED_BYTES: Final = 16 * 1024 * 1024
# Operators whose time, or whose output's size, follows from values and not from shapes.
_DEPENDS_ON_VALUES: Final = (
    *("Loop", "Scan", "If", "Range", "Expand", "Tile", "ConstantOfShape", "NonZero", "Resize"),
    *(
        "Upsample",
        "Pad",
        "OneHot",
        "Compress",
        "Unique",
        "NonMaxSuppression",
        "TopK",
        "SequenceMap",
    ),
    *(
        "StringSplit",
        "RegexFullMatch",
        "StringNormalizer",
        "BeamSearch",
        "GreedySearch",
        "Sampling",
    ),
)
_OP_TYPE_TAG: Final = 0x22


def depends_on_shapes_alone(path: Path) -> bool:
    """Return whether a model's time can be told from the shapes of its inputs.

    Looks for operators with a loop or a size of their own in the file, by the bytes that their
    names have in a node. A large file is not looked at: its runs are long anyway.
    """
    if path.stat().st_size > _MAX_SCANNED_BYTES:
        return False
    content = path.read_bytes()
    return not any(
        bytes((_OP_TYPE_TAG, len(name))) + name.encode() in content for name in _DEPENDS_ON_VALUES
    )


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

"""Sums of the workers' reports: one page of metrics, one document of statistics for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

from slipway_runtime.metrics import MAX_BATCH_SIZES

# What is not a sum. The rest of what a worker exports is: counts, times, bytes, files.
_NOT_SUMMED: Final[Mapping[str, Callable[[float, float], float]]] = {
    "slipway_model_info": max,
    "slipway_model_ready": min,
    "slipway_model_load_seconds": max,
    "slipway_model_provider": min,
    "slipway_fetch_bytes": max,
    "slipway_fetch_seconds": max,
    "process_start_time_seconds": min,
    "process_max_fds": min,
}
_LATEST: Final = "last_inference"
_KEY: Final = "batch_size"


def of_pages(pages: Sequence[bytes]) -> bytes:
    """Return one page of metrics, in the text exposition format, for those of several workers.

    A series that only some of the pages have is taken as it is there.
    """
    lines: list[str] = []
    values: dict[str, float] = {}
    where: dict[str, int] = {}  # of each family, the line behind its last one
    for page in pages:
        family = ""
        for line in page.decode().splitlines():
            if line.startswith("#"):
                family = line.split(" ", 3)[2]
                if family not in where or line not in lines:
                    _insert(lines, where, family, line)
                continue
            series, _, value = line.rpartition(" ")
            name = series.partition("{")[0]
            if series in values:
                combine = _NOT_SUMMED.get(name)
                known, new = values[series], float(value)
                values[series] = known + new if combine is None else combine(known, new)
            else:
                values[series] = float(value)
                _insert(lines, where, family, series)
    return "".join(
        f"{line}\n" if line.startswith("#") else f"{line} {_number(values[line])}\n"
        for line in lines
    ).encode()


def of_statistics(documents: Sequence[Any]) -> Any:
    """Return one document for Triton's statistics of several workers."""
    total = documents[0]
    for document in documents[1:]:
        total = _added("", total, document)
    return total


def _insert(lines: list[str], where: dict[str, int], family: str, line: str) -> None:
    """Put a line behind those of its family, which for a new one is the end."""
    place = where.get(family, len(lines))
    lines.insert(place, line)
    for name, behind in where.items():
        if behind > place:
            where[name] = behind + 1
    where[family] = place + 1


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


def _added(name: str, one: Any, other: Any) -> Any:
    if isinstance(one, dict):
        mine, theirs = cast("dict[str, Any]", one), cast("dict[str, Any]", other)
        return {key: _added(key, value, theirs[key]) for key, value in mine.items()}
    if isinstance(one, list):
        return _added_lists(cast("list[Any]", one), cast("list[Any]", other))
    if isinstance(one, int) and name != _KEY:
        return max(one, other) if name == _LATEST else one + other
    return one


def _added_lists(one: list[Any], other: list[Any]) -> list[Any]:
    """Add batches of one size to each other, and the only model to the only model."""
    by_size: dict[int, Any] = {entry.get(_KEY, 0): entry for entry in one}
    for entry in other:
        size = entry.get(_KEY, 0)
        by_size[size] = _added("", by_size[size], entry) if size in by_size else entry
    return [by_size[size] for size in sorted(by_size)[:MAX_BATCH_SIZES]]

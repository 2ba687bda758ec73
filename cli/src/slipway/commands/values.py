"""Values of options that are more than a word: lists, dimensions, ranges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click


class Numbers(click.ParamType[tuple[int, ...]]):
    """Whole numbers, comma-separated; in slipway.toml also a list."""

    name = "N,N,…"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Read the numbers."""
        parts: Sequence[Any] = value.split(",") if isinstance(value, str) else value
        try:
            return tuple(int(part) for part in parts)
        except (TypeError, ValueError):
            self.fail(f"{value!r} is no list of whole numbers such as 1,2,5", param, ctx)


class Dimension(click.ParamType[tuple[str, tuple[int, ...]]]):
    """A symbolic dimension and sizes for it."""

    name = "NAME=N,N,…"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[int, ...]]:
        """Read name and sizes."""
        name, mark, sizes = str(value).partition("=")
        if not mark or not name:
            self.fail(f"{value!r} is not of the form sequence=8,32", param, ctx)
        return name, NUMBERS.convert(sizes, param, ctx)


class Range(click.ParamType[tuple[str, tuple[float, float]]]):
    """Bounds of random values, for one input or (name "") all of them; the upper one excluded."""

    name = "[INPUT=]LOW:HIGH"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[float, float]]:
        """Read name and bounds."""
        name, _, bounds = str(value).rpartition("=")
        low, _, high = bounds.partition(":")
        try:
            numbers = float(low), float(high)
        except ValueError:
            self.fail(f"{value!r} is not of the form 0:30000 or ids=0:30000", param, ctx)
        if numbers[0] >= numbers[1]:
            self.fail(f"{value!r}: the first bound must be below the second", param, ctx)
        return name, numbers


NUMBERS = Numbers()
DIMENSION = Dimension()
RANGE = Range()

"""Types of structured option values: lists, dimensions, ranges."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from slipway.model.signature import DTYPES
from slipway.model.tensor import Tensor

_INPUT_FORM = re.compile(r"(?P<name>[^=]+)=(?P<datatype>\w+)\[(?P<shape>(\w+(, *\w+)*)?)\]")


class Numbers(click.ParamType[tuple[int, ...]]):
    """Whole numbers, comma-separated; in slipway.toml also a list."""

    name = "N,N,…"

    def __init__(self, lowest: int = 0) -> None:
        self._lowest = lowest

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Read the numbers."""
        parts: Sequence[Any] = value.split(",") if isinstance(value, str) else value
        try:
            numbers = tuple(int(part) for part in parts)
        except (TypeError, ValueError):
            self.fail(f"{value!r} is no list of whole numbers such as 1,2,5", param, ctx)
        if not numbers or min(numbers) < self._lowest:
            self.fail(f"{value!r}: each number must be at least {self._lowest}", param, ctx)
        return numbers


class Fractions(click.ParamType[tuple[float, ...]]):
    """Numbers, comma-separated; in slipway.toml also a list."""

    name = "X,X,…"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Read the numbers; none are a list too."""
        parts: Sequence[Any] = value.split(",") if isinstance(value, str) else value
        try:
            return tuple(float(part) for part in parts if part != "")
        except (TypeError, ValueError):
            self.fail(f"{value!r} is no list of numbers such as 0.485,0.456,0.406", param, ctx)


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
        return name, SIZES.convert(sizes, param, ctx)


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
        if not all(map(math.isfinite, numbers)):
            self.fail(f"{value!r}: both bounds must be numbers", param, ctx)
        if numbers[0] >= numbers[1]:
            self.fail(f"{value!r}: the first bound must be below the second", param, ctx)
        return name, numbers


class Tolerance(click.ParamType[float]):
    """How far values may be apart."""

    name = "NUMBER"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read a number from 0 up."""
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not 0 <= number < math.inf:
            self.fail(f"{value!r} is no number from 0 up", param, ctx)
        return number


class Names(click.ParamType[tuple[str, tuple[str, ...]]]):
    """A tensor and the names of its last dimension; ``@FILE`` reads them, one a line."""

    name = "TENSOR=A,B,…|@FILE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[str, ...]]:
        """Read tensor and names."""
        tensor, mark, names = str(value).partition("=")
        if not mark or not tensor:
            self.fail(f"{value!r} is not of the form x=age,income or x=@columns.txt", param, ctx)
        if not names.startswith("@"):
            return tensor, tuple(names.split(","))
        try:
            lines = Path(names[1:]).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            self.fail(f"{names[1:]} cannot be read: {error.strerror}", param, ctx)
        return tensor, tuple(line.strip() for line in lines if line.strip())


class Pair(click.ParamType[tuple[str, str]]):
    """A name and a text."""

    name = "NAME=TEXT"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Read name and text."""
        name, mark, text = str(value).partition("=")
        if not mark or not name:
            self.fail(f"{value!r} is not of the form NAME=TEXT", param, ctx)
        return name, text


class Input(click.ParamType[Tensor]):
    """An input with datatype and shape; words in the shape are dimensions that vary."""

    name = "NAME=DATATYPE[SIZE,…]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Tensor:
        """Read name, datatype and shape."""
        if isinstance(value, Tensor):
            return value
        found = _INPUT_FORM.fullmatch(str(value))
        if found is None or found["datatype"] not in DTYPES:
            self.fail(
                f"{value!r} is not of the form x=FP32[batch,4]; datatypes are {', '.join(DTYPES)}",
                param,
                ctx,
            )
        sizes = [size.strip() for size in found["shape"].split(",") if size.strip()]
        shape = tuple(int(size) if size.isdigit() else size for size in sizes)
        return Tensor(found["name"], found["datatype"], shape)


NUMBERS = Numbers()
SIZES = Numbers(lowest=1)
TOLERANCE = Tolerance()
FRACTIONS = Fractions()
INPUT = Input()
NAMES = Names()
PAIR = Pair()
DIMENSION = Dimension()
RANGE = Range()

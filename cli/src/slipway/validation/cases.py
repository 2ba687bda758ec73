"""Inputs to compare on: random ones of several shapes, edge values, and given ones."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from slipway import files
from slipway.errors import InvalidArguments
from slipway.model.signature import DTYPES, Array
from slipway.model.tensor import Tensor

_DEFAULT_SIZES = (7, 12)
EDGES = (("all 0", 0.0), ("all -1", -1.0), ("all 100", 100.0))
"""Labels and values of the cases whose floats are all alike."""
_WORDS = ("", "a", "slipway", "größer", "two words")


Bounds = tuple[float | Sequence[float], float | Sequence[float]]
"""Lowest and highest number of an input, or of each place of its last dimension."""


@dataclass(frozen=True)
class Case:
    """One set of inputs; ``expected`` holds outputs that are known to be right, if any.

    ``unrounded`` holds inputs as they were before they got the model's datatype, where that could
    not take them exactly.
    """

    label: str
    inputs: Mapping[str, Array]
    expected: Mapping[str, Array] = field(default_factory=dict[str, Array])
    unrounded: Mapping[str, Array] = field(default_factory=dict[str, Array])


@dataclass(frozen=True)
class Plan:
    """Which inputs to make.

    ``dimensions`` gives sizes to try for symbolic dimensions by name; the first dimension takes
    ``batch_sizes``. ``ranges`` gives (low, high) by input, "" for all of them, and ``usual`` what
    holds where nobody asked for any. ``whole`` makes floats whole numbers.
    """

    batch_sizes: Sequence[int] = (1, 2, 5)
    seeds: Sequence[int] = (0, 1)
    dimensions: Mapping[str, Sequence[int]] = field(default_factory=dict[str, Sequence[int]])
    ranges: Mapping[str, tuple[float, float]] = field(
        default_factory=dict[str, tuple[float, float]]
    )
    usual: Mapping[str, Bounds] = field(default_factory=dict[str, Bounds])
    edges: bool = True
    whole: bool = False


def made(inputs: Sequence[Tensor], plan: Plan) -> list[Case]:
    """Make random cases, one for each batch size, seed and size of the other dimensions.

    Raises:
        InvalidArguments: an input has no shape, or a datatype that cannot be made.
    """
    for tensor in inputs:
        if tensor.shape is None or not tensor.served:
            raise InvalidArguments(
                f"no values can be made for input {tensor.name!r} ({tensor.datatype},"
                f" {tensor.shown_shape})",
                "give some with --samples FILE.npz",
            )
    batches = {_symbol(tensor, 0) for tensor in inputs if tensor.batch is not None}
    others = sorted({symbol for tensor in inputs for symbol in _symbols(tensor)} - batches)
    cases: list[Case] = []
    batch_sizes = plan.batch_sizes if batches else plan.batch_sizes[:1]
    for batch, seed, step in itertools.product(batch_sizes, plan.seeds, _steps(others, plan)):
        sizes = dict.fromkeys(batches, batch) | step
        whole = ["whole numbers"] if plan.whole else []
        told = [*([f"batch {batch}"] if batches else []), *_shown(step), *whole, f"seed {seed}"]
        # Not one stream for all: smaller batches would be the first rows of larger ones.
        random = np.random.default_rng([seed, batch, *step.values()])
        cases.append(
            Case(
                ", ".join(told),
                {t.name: _random(t, _shape(t, sizes), random, plan) for t in inputs},
            )
        )
    if plan.edges and cases:
        cases += _edges(inputs, cases[0], plan)
    return cases


def given(path: Path, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Case:
    """Read a case from an .npz file: arrays by the names of inputs, and of outputs if known.

    An .npy file holds the one input of a model that has only one.

    Raises:
        NotFound: there is no such file.
        InvalidArguments: names or datatypes do not fit the model.
    """
    arrays = _read(path, inputs)
    wanted = {tensor.name: tensor for tensor in (*inputs, *outputs)}
    missing = [tensor.name for tensor in inputs if tensor.name not in arrays]
    unknown = [name for name in arrays if name not in wanted]
    if missing or unknown:
        problem = (
            f"lacks the input {missing[0]!r}"
            if missing
            else f"holds {unknown[0]!r}, which is neither an input nor an output"
        )
        listed = ", ".join(repr(tensor.name) for tensor in inputs)
        raise InvalidArguments(f"{path} {problem}", f"the model's inputs are {listed}")
    cast_to = {name: _fit(path, wanted[name], array) for name, array in arrays.items()}
    return Case(
        str(path),
        {tensor.name: cast_to[tensor.name] for tensor in inputs},
        {tensor.name: cast_to[tensor.name] for tensor in outputs if tensor.name in cast_to},
        {
            tensor.name: arrays[tensor.name]
            for tensor in inputs
            if _rounded(arrays[tensor.name], cast_to[tensor.name])
        },
    )


def singles(case: Case, inputs: Sequence[Tensor]) -> list[dict[str, Array]]:
    """Split a case of a batchable model into its rows, each with a first dimension of 1."""
    count = len(case.inputs[inputs[0].name])
    return [
        {name: array[index : index + 1] for name, array in case.inputs.items()}
        for index in range(count)
    ]


def _read(path: Path, inputs: Sequence[Tensor]) -> dict[str, Array]:
    files.require_file(path)
    try:
        # Never a pickle: object arrays are refused.
        content: Any = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise InvalidArguments(
            f"{path} is no .npz or .npy file of plain arrays: {error}",
            "write it with numpy.savez(FILE, **{INPUT: array}); text as arrays of dtype U",
        ) from None
    if isinstance(content, np.ndarray):
        if len(inputs) != 1:
            raise InvalidArguments(
                f"{path} holds one array, and the model has {len(inputs)} inputs",
                "write an .npz file with one array for each input",
            )
        return {inputs[0].name: cast("Array", content)}
    with content:
        return {name: content[name] for name in content.files}


def _fit(path: Path, tensor: Tensor, array: Array) -> Array:
    dtype = DTYPES.get(tensor.datatype)
    if dtype is None:
        return array
    if array.ndim == 1 and tensor.shape is not None and tensor.shape[1:] == (1,):
        array = array[:, None]  # A column, as a data frame has it.
    if dtype.kind == "O":
        return array.astype(object)
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        raise InvalidArguments(
            f"{path}: {tensor.name!r} is {array.dtype}, the model expects {dtype}",
            f"write it with .astype({dtype.name!r})",
        )
    return np.ascontiguousarray(array.astype(dtype))


def _rounded(array: Array, to: Array) -> bool:
    numbers = array.dtype.kind in "iuf" and to.dtype.kind == "f"
    return numbers and not np.array_equal(array, to.astype(array.dtype), equal_nan=True)


def _symbol(tensor: Tensor, axis: int) -> str:
    size = (tensor.shape or ())[axis]
    return size if isinstance(size, str) else f"{tensor.name}.{axis}"


def _symbols(tensor: Tensor) -> list[str]:
    shape = tensor.shape or ()
    return [_symbol(tensor, axis) for axis, size in enumerate(shape) if not isinstance(size, int)]


def _shape(tensor: Tensor, sizes: Mapping[str, int]) -> tuple[int, ...]:
    shape = tensor.shape or ()
    return tuple(
        size if isinstance(size, int) else sizes[_symbol(tensor, axis)]
        for axis, size in enumerate(shape)
    )


def _steps(symbols: Sequence[str], plan: Plan) -> list[dict[str, int]]:
    """Return sizes of the other symbolic dimensions; all advance together, for few cases."""
    sizes = {symbol: plan.dimensions.get(symbol, _DEFAULT_SIZES) for symbol in symbols}
    count = max((len(values) for values in sizes.values()), default=1)
    return [
        {symbol: values[step % len(values)] for symbol, values in sizes.items()}
        for step in range(count)
    ]


def _shown(step: Mapping[str, int]) -> list[str]:
    return [f"{symbol} {size}" for symbol, size in step.items()]


def _random(
    tensor: Tensor, shape: tuple[int, ...], random: np.random.Generator, plan: Plan
) -> Array:
    dtype = DTYPES[tensor.datatype]
    bounds = plan.ranges.get(tensor.name)
    if tensor.typical and bounds is None:
        choices = np.array(tensor.typical, dtype)
        return np.asarray(random.choice(choices, shape), dtype).reshape(shape)
    bounds = bounds or plan.ranges.get("") or plan.usual.get(tensor.name)
    if dtype.kind == "O":
        return np.asarray(random.choice(_WORDS, shape), dtype=object).reshape(shape)
    if dtype.kind == "b":
        return np.asarray(random.random(shape) < 0.5)  # noqa: PLR2004 - a fair coin
    if dtype.kind == "f":
        drawn = random.standard_normal(shape) if bounds is None else random.uniform(*bounds, shape)
        return np.asarray(np.rint(drawn) if plan.whole else drawn).astype(dtype)
    # Small by default, so that they are valid as indices and token ids too.
    low, high = np.asarray(bounds or (0, 2)).astype(np.int64)
    return np.asarray(random.integers(low, high, shape)).astype(dtype)


def _edges(inputs: Sequence[Tensor], like: Case, plan: Plan) -> list[Case]:
    """Return cases of values where arithmetic goes wrong first; only floats are set to them."""
    free = [t for t in inputs if not t.typical and not plan.ranges]
    floats = [t.name for t in free if DTYPES[t.datatype].kind == "f"]
    if not floats:
        return []
    return [
        Case(
            label,
            {
                name: np.full_like(array, value) if name in floats else array
                for name, array in like.inputs.items()
            },
        )
        for label, value in EDGES
    ]

"""Golden samples: inputs with the expected outputs, checked before the model is ready.

    {"samples": [{"inputs": [TENSOR, …], "outputs": [TENSOR, …]}, …]}

Tensors have the form that the Open Inference Protocol gives them in JSON.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import orjson

from slipway_runtime.artifact.manifest import Tolerance
from slipway_runtime.errors import (
    BadRequest,
    GoldenMismatch,
    InvalidArguments,
    InvalidModel,
    RequestError,
)
from slipway_runtime.inference import bfloat16
from slipway_runtime.inference.json_values import from_row_major
from slipway_runtime.inference.model import Model
from slipway_runtime.inference.tensors import BF16, Array, TensorSpec

DEFAULT_TOLERANCE: Final = Tolerance(rtol=1e-4, atol=1e-5)

_MAX_SAMPLES: Final = 1000
_SHOWN_CHARACTERS: Final = 40
_REASON_CHARACTERS: Final = 300

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """One sample: an array for each input, and for each output that is compared."""

    inputs: dict[str, Array]
    outputs: dict[str, Array]


@dataclass(frozen=True)
class Pinned:
    """Samples, and how far what comes may be from them."""

    samples: list[Sample]
    tolerance: Tolerance


@dataclass(frozen=True)
class Difference:
    """How an output differs from the golden one.

    ``largest`` is the largest absolute difference, infinite where one of both is not finite, and
    for text and booleans the count of elements that differ. ``where`` describes the worst element.
    """

    largest: float
    count: int
    where: str


def read(path: Path, model: Model) -> list[Sample]:
    """Read golden samples, verified before, for a model that is loaded.

    Raises:
        InvalidModel: the file is malformed, or its tensors do not fit the model.
    """
    try:
        return _samples(orjson.loads(path.read_bytes()), model)
    except ValueError as error:
        raise InvalidModel(f"the golden samples in {path.name} cannot be read: {error}") from error


def parse(text: str, model: Model) -> Pinned:
    """Read the golden samples of the setting, for a model that is loaded.

    They have the form of a file's, with `rtol` and `atol` beside `samples` if they are to be others
    than `DEFAULT_TOLERANCE`.

    Raises:
        InvalidArguments: the setting is malformed.
        GoldenMismatch: its tensors do not fit the model, which no retry can fix.
    """
    try:
        document: Any = orjson.loads(text)
        tolerance = _tolerance(document)
    except (ValueError, TypeError) as error:
        raise InvalidArguments(
            f"the golden samples of SLIPWAY_GOLDEN (spec.golden) cannot be read: {error}"
        ) from error
    try:
        return Pinned(_samples(document, model), tolerance)
    except ValueError as error:
        raise GoldenMismatch(
            f"the golden samples of spec.golden (SLIPWAY_GOLDEN) do not fit the model: {error}"
        ) from error


def check(model: Model, samples: Sequence[Sample], tolerance: Tolerance) -> None:
    """Run every sample and compare what comes with what must come.

    Raises:
        GoldenMismatch: naming the output, the difference and the tolerance.
    """
    for number, sample in enumerate(samples):
        try:
            outputs = model.infer(sample.inputs, list(sample.outputs))
        except RequestError as error:
            raise GoldenMismatch(
                f"the model fails on golden sample {number}: {error.message}", sample=number
            ) from error
        for name, golden in sample.outputs.items():
            found = difference(model.output_spec(name), outputs[name], golden, tolerance)
            if found is not None:
                raise _mismatch(number, name, found, tolerance)
    logger.info("%d golden samples came out as they must", len(samples))


def difference(
    spec: TensorSpec, got: Array, golden: Array, tolerance: Tolerance
) -> Difference | None:
    """Return how an output differs, None where |got - golden| <= atol + rtol * |golden|.

    For whole numbers, which may be classes or tokens, ``rtol`` does not count.
    """
    if got.shape != golden.shape:
        shapes = f"the shape is {list(got.shape)}, not {list(golden.shape)}"
        return Difference(float("inf"), golden.size, shapes)
    if spec.datatype.name == BF16:
        got, golden = bfloat16.widen(got), bfloat16.widen(golden)
    different = np.atleast_1d(np.asarray(got != golden))
    got, golden = np.atleast_1d(got), np.atleast_1d(golden)
    if spec.datatype.kind in "Ob":
        apart = different.astype(np.float64)
        excess = np.where(different, 1.0, -1.0)
        largest = float(np.count_nonzero(different))
    else:
        wanted = golden.astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            apart = np.where(different, np.abs(got.astype(np.float64) - wanted), 0.0)
            apart = np.where(np.isnan(apart), np.inf, apart)
            if spec.datatype.kind in "iu":
                # Beyond 2**53 doubles would call different numbers the same.
                apart = np.where(different, np.maximum(apart, 1.0), 0.0)
                excess = apart - tolerance.atol
            else:
                excess = apart - (tolerance.atol + tolerance.rtol * np.abs(wanted))
        largest = float(np.max(apart, initial=0.0))
    count = int(np.count_nonzero(excess > 0))
    if count == 0:
        return None
    worst = np.unravel_index(int(np.argmax(excess)), excess.shape)
    place = [int(index) for index in worst]
    return Difference(
        largest, count, f"at {place} got {_shown(got[worst])}, golden is {_shown(golden[worst])}"
    )


def rows(model: Model, samples: Sequence[Sample]) -> list[dict[str, Array]]:
    """Return the single rows of samples whose inputs have rows; shapes as those of the first."""
    found: list[dict[str, Array]] = []
    inputs = model.signature.inputs
    if not inputs or not all(spec.batchable for spec in inputs):
        return found
    for sample in samples:
        arrays = sample.inputs
        for row in range(min(array.shape[0] for array in arrays.values())):
            one = {name: array[row : row + 1] for name, array in arrays.items()}
            if not found or all(one[name].shape == found[0][name].shape for name in one):
                found.append(one)
    return found


def _mismatch(number: int, name: str, found: Difference, tolerance: Tolerance) -> GoldenMismatch:
    return GoldenMismatch(
        f"golden sample {number}: output {name!r} differs by up to {found.largest:.6g} from what is"
        f" pinned; allowed is {tolerance.atol:g} + {tolerance.rtol:g} * |golden|; {found.count}"
        f" elements are beyond it, the worst {found.where}: the graph, the execution provider or"
        " its library computes something else than where the samples were made",
        output=name,
        sample=number,
        maxDifference=f"{found.largest:.6g}",
        atol=f"{tolerance.atol:g}",
        rtol=f"{tolerance.rtol:g}",
    )


def _samples(document: Any, model: Model) -> list[Sample]:
    """Read all samples of a document. Raises ValueError with a sentence for people."""
    try:
        entries = document["samples"]
        if not 0 < len(entries) <= _MAX_SAMPLES:
            raise ValueError(f"it holds {len(entries)} samples, from 1 to {_MAX_SAMPLES} may be")
        return [_sample(model, entry, number) for number, entry in enumerate(entries)]
    except KeyError as error:
        reason = f"{error} is missing"
    except (ValueError, TypeError) as error:
        reason = str(error)
    raise ValueError(reason[:_REASON_CHARACTERS])


def _tolerance(document: dict[str, object]) -> Tolerance:
    given = {name: document[name] for name in ("rtol", "atol") if name in document}
    for name, value in given.items():
        if not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise ValueError(f"{name} is {_shown(value)}, and must be a number from 0 up")
    return DEFAULT_TOLERANCE.model_copy(update=given)


def _sample(model: Model, entry: Any, number: int) -> Sample:
    try:
        inputs = {
            spec.name: _array(spec, tensor)
            for spec, tensor in _named(entry["inputs"], model.signature.inputs)
        }
        model.check_inputs(inputs)
        names = [str(tensor["name"]) for tensor in entry["outputs"]]
        model.check_outputs(names)
        specs = [model.output_spec(name) for name in names]
        outputs = {
            spec.name: _array(spec, tensor) for spec, tensor in _named(entry["outputs"], specs)
        }
    except KeyError as error:
        raise ValueError(f"sample {number}: {error} is missing") from None
    except BadRequest as error:
        raise ValueError(f"sample {number}: {error.message}") from None
    if not outputs:
        raise ValueError(f"sample {number} has no outputs")
    return Sample(inputs, outputs)


def _named(tensors: Any, specs: Sequence[TensorSpec]) -> list[tuple[TensorSpec, Any]]:
    known = {spec.name: spec for spec in specs}
    names = [tensor["name"] for tensor in tensors]
    if len(set(names)) != len(names) or not known.keys() >= set(names):
        raise ValueError(f"it has the tensors {names}, the model {list(known)}")
    return [(known[tensor["name"]], tensor) for tensor in tensors]


def _array(spec: TensorSpec, tensor: Any) -> Array:
    if tensor["datatype"] != spec.datatype.name:
        raise ValueError(
            f"{spec.name!r} is {spec.datatype.name} in the model, not {tensor['datatype']!r}"
        )
    shape = tensor["shape"]
    if not isinstance(shape, list) or not all(
        type(size) is int and size >= 0 for size in cast("list[object]", shape)
    ):
        raise ValueError(f"the shape of {spec.name!r} is no list of sizes")
    return from_row_major(spec, tensor["data"], cast("list[int]", shape))


def _shown(value: object) -> str:
    return str(value)[:_SHOWN_CHARACTERS]

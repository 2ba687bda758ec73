"""Typical values of inputs, as the graph lists them.

The graph's metadata property ``typical`` is JSON: ``{"<input>": [<value>, …], …}``, texts or
numbers, such as the categories of a column. A model that knows no others fails on made-up texts and
on zeros, so the warm-up, the trial of batches and the examples of the API's pages use these.
Requests are not compared with them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Final, cast

import numpy as np

from slipway_runtime.inference.tensors import Array, TensorSpec

PROPERTY: Final = "typical"

logger = logging.getLogger(__name__)


def read(properties: Mapping[str, str], inputs: Sequence[TensorSpec]) -> dict[str, Array]:
    """Return the values by input name, each 1-d of the input's dtype and never empty.

    A property that does not fit the inputs is left aside with a warning: another tool may use the
    same word for something else.
    """
    text = properties.get(PROPERTY)
    if text is None:
        return {}
    specs = {spec.name: spec for spec in inputs}
    try:
        document: object = json.loads(text)
        if not isinstance(document, dict):
            raise TypeError("it is no object by input name")
        listed = cast("dict[str, object]", document)
        return {name: _values(name, values, specs) for name, values in listed.items()}
    except (ValueError, TypeError, OverflowError) as error:
        logger.warning("the metadata property %s is left aside: %s", PROPERTY, error)
        return {}


def filled(values: Array, shape: Sequence[int], first: int = 0) -> Array:
    """Return an array of that shape with the values in their turn, from number ``first`` on."""
    return np.resize(np.roll(values, -first), tuple(shape))


def _values(name: str, values: object, specs: Mapping[str, TensorSpec]) -> Array:
    if name not in specs:
        raise ValueError(f"there is no input {name!r}")
    if not isinstance(values, list) or not values:
        raise ValueError(f"what is given for {name!r} is no list of values")
    spec, listed = specs[name], cast("list[object]", values)
    wanted = str if spec.datatype.kind == "O" else (int, float)
    if not all(isinstance(value, wanted) for value in listed):
        raise ValueError(f"what is given for {name!r} are no values of {spec.datatype.name}")
    return np.array(listed, dtype=spec.datatype.dtype)

"""The column names of a model's inputs: listed by its package, or by the graph itself.

The graph's metadata property ``columns`` is JSON: ``{"<input>": ["<column>", …], …}``, the columns
in the order in which the input takes them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Final, cast

from slipway_runtime.errors import InvalidModel
from slipway_runtime.inference.tensors import TensorSpec

PROPERTY: Final = "columns"

logger = logging.getLogger(__name__)


def read(properties: Mapping[str, str], inputs: Sequence[TensorSpec]) -> dict[str, list[str]]:
    """Return the columns by input name; a property that does not fit the inputs is left aside.

    Another tool may use the same word for something else, so that is a warning, not a failure.
    """
    text = properties.get(PROPERTY)
    if text is None:
        return {}
    try:
        return _checked(json.loads(text), {spec.name: spec for spec in inputs})
    except (ValueError, TypeError) as error:
        logger.warning("the metadata property %s is left aside: %s", PROPERTY, error)
        return {}


def given(
    listed: Mapping[str, Sequence[str]], inputs: Sequence[TensorSpec]
) -> dict[str, list[str]]:
    """Return the columns that a package lists by input name.

    Raises:
        InvalidModel: they do not fit the graph's inputs.
    """
    document = {name: list(columns) for name, columns in listed.items()}
    try:
        return _checked(document, {spec.name: spec for spec in inputs})
    except ValueError as error:
        raise InvalidModel(f"the package's columns do not fit its graph: {error}") from None


def _checked(document: object, specs: Mapping[str, TensorSpec]) -> dict[str, list[str]]:
    if not isinstance(document, dict):
        raise TypeError("it is no object by input name")
    for name, columns in cast("dict[str, object]", document).items():
        if name not in specs:
            raise ValueError(f"there is no input {name!r}")
        if not isinstance(columns, list) or not all(
            isinstance(column, str) for column in cast("list[object]", columns)
        ):
            raise ValueError(f"the columns of {name!r} are no list of names")
        listed = cast("list[str]", columns)
        width = (specs[name].shape or (None,))[-1]
        if len(set(listed)) != len(listed):
            raise ValueError(f"the columns of {name!r} are not all different")
        if width is not None and width != len(listed):
            raise ValueError(f"input {name!r} takes {width} values, not {len(listed)}")
    return cast("dict[str, list[str]]", document)

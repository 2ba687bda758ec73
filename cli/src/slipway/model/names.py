"""Names of an input's columns and of an output's classes, as the model itself carries them.

They lie in the metadata properties ``columns`` and ``labels``, JSON such as
``{"x": ["age", "income"]}``, where the runtime finds the columns too. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from slipway.errors import InvalidArguments
from slipway.model.tensor import Tensor

COLUMNS = "columns"
LABELS = "labels"

Names = Mapping[str, Sequence[str]]


def encode(names: Names) -> str:
    """Return the text of a property."""
    return json.dumps({name: list(values) for name, values in names.items()}, ensure_ascii=False)


def read(metadata: Mapping[str, str], key: str, tensors: Sequence[Tensor]) -> dict[str, list[str]]:
    """Return what a property says; nothing where it is absent or does not fit the tensors.

    Another tool may use the same word for something else, so that is no error.
    """
    try:
        found: Any = json.loads(metadata.get(key, "{}"))
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    names = {
        name: [str(value) for value in cast("list[Any]", values)]
        for name, values in cast("dict[str, Any]", found).items()
        if isinstance(values, list)
    }
    try:
        check(names, tensors, key)
    except InvalidArguments:
        return {}
    return names


def check(given: Names, tensors: Sequence[Tensor], what: str) -> None:
    """Refuse names that do not fit the tensors.

    Raises:
        InvalidArguments: there is no such tensor, its last dimension has another size, or a name is
            there twice.
    """
    known = {tensor.name: tensor for tensor in tensors}
    for name, values in given.items():
        tensor = known.get(name)
        if tensor is None:
            raise InvalidArguments(
                f"{what} are given for {name!r}, which the model does not have",
                f"it has {', '.join(repr(other) for other in known)}",
            )
        if len(set(values)) != len(values):
            raise InvalidArguments(f"the {what} of {name!r} are not all different")
        size = tensor.shape[-1] if tensor.shape else None
        if isinstance(size, int) and size != len(values):
            raise InvalidArguments(
                f"{len(values)} {what} are given for {name!r}, whose last dimension is {size}",
                f"give {size} names, in the order of the tensor",
            )

"""Estimators that take the columns of a data frame by name: a ColumnTransformer is within them.

Their file has an input for each column. Which columns hold text, and which values a column of
categories may have, is read off the fitted transformers.
"""

from __future__ import annotations

import copy
import importlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from slipway.errors import InvalidArguments
from slipway.export import fitted_ranges, text
from slipway.model.signature import Array
from slipway.model.tensor import Tensor

_SHAPE = ("batch", 1)
_NUMBERS = ("FP32", "FP64", "INT32", "INT64", "BOOL")
_FITTED = ("best_estimator_", "estimator", "estimator_", "final_estimator_", "regressor_")
_SEVERAL_FITTED = ("calibrated_classifiers_", "estimators_")
_MOST_VALUES = 100
_MOST_WHOLE = 60
_UNKNOWN = "slipway-unknown"


def takes_columns(estimator: Any) -> bool:
    """Return whether a fitted estimator takes columns by name, and no matrix."""
    return any(
        isinstance(column, str)
        for transformer in _column_transformers(estimator)
        for _, columns in _parts(transformer)
        for column in columns
    )


def inputs(
    estimator: Any, given: Sequence[Tensor], signature: Mapping[str, str]
) -> tuple[Tensor, ...]:
    """Return the columns that an estimator uses, in the order of the data frame it was fitted to.

    Each is [batch, 1]: FP32, or BYTES where a transformer was fitted to text or ``signature``
    (datatypes by column) says so. ``given`` are columns of which a person said the datatype.

    Raises:
        InvalidArguments: one of these is no column, or of another shape.
    """
    found = {name: Tensor(name, "FP32", _SHAPE) for name in _used(estimator)}
    for name in found.keys() & signature.keys():
        if signature[name] == "BYTES":
            found[name] = replace(found[name], datatype="BYTES")
    for name, values, more in _typical(estimator):
        if name in found:
            found[name] = _with_values(found[name], values, more=more)
    for name, (low, high), whole in _scaled(estimator):
        # Trees behind a scaler split between whole numbers, often just at another one.
        if whole and name in found and not found[name].typical:
            found[name] = replace(found[name], typical=tuple(_whole_numbers(low, high)))
    for tensor in given:
        _check(tensor, found)
        before = found[tensor.name]
        same_kind = (before.datatype == "BYTES") == (tensor.datatype == "BYTES")
        found[tensor.name] = Tensor(
            tensor.name, tensor.datatype, _SHAPE, before.typical if same_kind else ()
        )
    return tuple(found.values())


def _with_values(column: Tensor, values: Sequence[Any], *, more: bool) -> Tensor:
    """Return a column with values that a transformer knows; ``more`` says that it takes others."""
    if words := [value for value in values if isinstance(value, str)]:
        unknown = (_UNKNOWN,) if more else ()
        return Tensor(column.name, "BYTES", _SHAPE, (*words[:_MOST_VALUES], *unknown))
    numbers = [float(v) for v in values if v is not None and not math.isnan(v)]
    if not numbers:
        return column
    # FP32 would make others of them.
    exact = all(np.float32(v) == v or not v.is_integer() for v in numbers)
    beyond = (max(numbers) + 1,) if more else ()
    kept = (*numbers[:_MOST_VALUES], *beyond)
    return Tensor(column.name, column.datatype if exact else "INT64", _SHAPE, kept)


def ranges(estimator: Any) -> dict[str, tuple[float, float]]:
    """Return where the numbers of columns lay that an estimator was fitted to, as scalers know."""
    return {name: bounds for name, bounds, whole in _scaled(estimator) if not whole}


def _scaled(estimator: Any) -> Iterator[tuple[str, tuple[float, float], bool]]:
    """Yield scaled columns, their bounds, and whether they held whole numbers alone."""
    for column_transformer in _column_transformers(estimator):
        for transformer, columns in _parts(column_transformer):
            for step in _until_columns_change(transformer, len(columns)):
                for column, scaled in zip(
                    columns, fitted_ranges.of_scaler(step, len(columns)), strict=False
                ):
                    if isinstance(column, str) and scaled[0] < scaled[1]:
                        yield column, scaled[:2], scaled[2]


def _whole_numbers(low: float, high: float) -> list[int]:
    """Return whole numbers from one to the other, the middle one first."""
    first, last = math.ceil(low), math.floor(high)
    step = max(1, (last - first) // _MOST_WHOLE)
    middle = (first + last) // 2
    return [middle, *(n for n in range(first, last + 1, step) if n != middle)]


def with_dropped(estimator: Any, used: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return all columns of the data frame that an estimator was fitted to, in its order."""
    known = {tensor.name: tensor for tensor in used}
    names = [str(name) for name in estimator.feature_names_in_]
    return tuple(known.get(name) or Tensor(name, "FP32", _SHAPE) for name in names)


def frame(feeds: Mapping[str, Array]) -> Any:
    """Return columns of [batch, 1] as a data frame."""
    pandas = importlib.import_module("pandas")
    return pandas.DataFrame({name: array.ravel() for name, array in feeds.items()})


def vectorizers(estimator: Any) -> Iterator[Any]:
    """Yield the fitted transformers of columns that cut text into words."""
    for column_transformer in _column_transformers(estimator):
        for transformer, _ in _parts(column_transformer):
            yield from filter(text.is_vectorizer, (transformer, *_steps(transformer)))


def without_text_imputers(estimator: Any) -> Any:
    """Return an estimator whose pipelines fill in no missing text; itself where none does.

    An input of ONNX has no missing text, so that these steps do nothing, and no converter.
    """
    transformers = [
        transformer
        for column_transformer in _column_transformers(estimator)
        for transformer, _ in _parts(column_transformer)
    ]
    if not any(_imputes_text(step) for t in transformers for step in _steps(t)):
        return estimator
    changed = copy.deepcopy(estimator)
    for column_transformer in _column_transformers(changed):
        for transformer, _ in _parts(column_transformer):
            if hasattr(transformer, "steps"):
                kept = [(name, s) for name, s in transformer.steps if not _imputes_text(s)]
                transformer.steps = kept
    return changed


def _steps(transformer: Any) -> list[Any]:
    """Return the steps of a pipeline, none of anything else."""
    return [step for _, step in getattr(transformer, "steps", ())]


def _imputes_text(step: Any) -> bool:
    return _fillings(step).dtype.kind in "OU"


def _fillings(step: Any) -> Array:
    """Return what a fitted imputer fills the gaps of each column with; nothing of others."""
    return np.asarray(getattr(step, "statistics_", ()))


def _check(tensor: Tensor, columns: Mapping[str, Tensor]) -> None:
    if tensor.name not in columns:
        raise InvalidArguments(
            f"the estimator takes columns by name, and {tensor.name!r} is none of those that it"
            f" uses: {', '.join(columns)}",
            f"--input {next(iter(columns))}=FP64[batch,1], or no --input at all",
        )
    if tensor.wire_shape[1:] != [1] or tensor.datatype not in (*_NUMBERS, "BYTES"):
        raise InvalidArguments(
            f"a column is {', '.join(_NUMBERS)} or BYTES of the shape [batch,1], and not"
            f" {tensor.datatype}{tensor.shown_shape}",
            f"--input {tensor.name}=FP32[batch,1]",
        )


def _used(estimator: Any) -> list[str]:
    """Return the columns in order, without those that a ColumnTransformer at the head drops."""
    names = [str(name) for name in estimator.feature_names_in_]
    head = next(_heads(estimator), None)
    if head is None:
        return names
    kept = {
        names[column] if isinstance(column, int) else str(column)
        for _, columns in _parts(head)
        for column in columns
    }
    return [name for name in names if name in kept]


def _heads(estimator: Any) -> Iterator[Any]:
    """Yield the ColumnTransformer that meets the data frame first, if nothing is before it."""
    first = estimator
    while hasattr(first, "best_estimator_") or hasattr(first, "steps"):
        first = first.best_estimator_ if hasattr(first, "best_estimator_") else first.steps[0][1]
    if _is_column_transformer(first):
        yield first


def _is_column_transformer(candidate: Any) -> bool:
    return hasattr(candidate, "transformers_") and hasattr(candidate, "remainder")


def _column_transformers(estimator: Any) -> Iterator[Any]:
    """Yield those fitted ones within an estimator that are not within another one."""
    if _is_column_transformer(estimator):
        yield estimator
        return
    parts = [step for _, step in getattr(estimator, "steps", ())]
    parts += [getattr(estimator, name) for name in _FITTED if hasattr(estimator, name)]
    for name in _SEVERAL_FITTED:
        several = getattr(estimator, name, ())
        parts += several if isinstance(several, list) else []
    for part in parts:
        yield from _column_transformers(part)


def _parts(column_transformer: Any) -> Iterator[tuple[Any, list[Any]]]:
    """Yield each transformer that does something, with its columns."""
    for _, transformer, columns in column_transformer.transformers_:
        if isinstance(transformer, str) and transformer == "drop":
            continue
        if isinstance(columns, (str, int)):
            yield transformer, [columns]
        elif isinstance(columns, slice):
            yield transformer, list(range(*columns.indices(column_transformer.n_features_in_)))
        else:
            yield transformer, list(columns)


def _typical(estimator: Any) -> Iterator[tuple[str, list[Any], bool]]:
    """Yield columns with values that they may have, and whether any others are taken too."""
    for column_transformer in _column_transformers(estimator):
        for transformer, columns in _parts(column_transformer):
            for step in _until_columns_change(transformer, len(columns)):
                for column, values in zip(columns, _values(step, len(columns)), strict=False):
                    if isinstance(column, str):
                        more = getattr(step, "handle_unknown", "ignore") != "error"
                        yield column, values, more


def _until_columns_change(transformer: Any, count: int) -> Iterator[Any]:
    """Yield the steps of a pipeline up to the first after which columns are others."""
    for step in _steps(transformer) or [transformer]:
        yield step
        if hasattr(step, "categories_") or getattr(step, "n_features_in_", count) != count:
            return


def _values(step: Any, count: int) -> list[list[Any]]:
    """Return the values by column that a fitted transformer knows: its categories, or its words."""
    if hasattr(step, "categories_"):
        return [np.asarray(values).tolist() for values in step.categories_]
    if text.is_vectorizer(step):
        return [text.sentences(step)]
    if _imputes_text(step) and len(_fillings(step)) == count:
        return [[value] for value in _fillings(step).tolist()]
    return []

"""Data frames: named columns to inputs, by name and never by guess.

A column reaches an input in one of two ways: the model carries a list of columns for the input
(its metadata property ``columns``), or the column has the input's own name. A single column for a
model's single input needs neither. Several columns without a list are refused: their order in the
request says nothing about the order in which the model was trained.
"""

from __future__ import annotations

import csv
import io
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

import numpy as np

from slipway_runtime.errors import BadRequest
from slipway_runtime.inference.json_values import from_nested, name_value
from slipway_runtime.inference.model import Model
from slipway_runtime.inference.tensors import Array, TensorSpec, check_shape

_SHOWN: Final = 20
# A request's size is bounded already; Python's own limit is 128 KiB a cell.
csv.field_size_limit(sys.maxsize)
_BOOLEANS: Final = {"true": True, "false": False, "1": True, "0": False}


@dataclass(frozen=True)
class Frame:
    """Rows of cells under column names; ``text`` says that the cells are text, as in CSV."""

    columns: list[str]
    rows: list[list[object]]
    text: bool = False


def from_split(value: object, member: str) -> Frame:
    """Return the frame of ``{"columns": […], "data": [[…]]}``; an ``index`` is left aside.

    Raises:
        BadRequest: it has another form, or a row has more or fewer cells than there are columns.
    """
    fields = cast("dict[str, object]", value) if isinstance(value, dict) else {}
    columns, data = fields.get("columns"), fields.get("data")
    if not isinstance(columns, list) or not isinstance(data, list):
        raise BadRequest(f'{member} must be an object {{"columns": […], "data": [[…], …]}}')
    names = cast("list[object]", columns)
    for name in names:
        if not isinstance(name, str):
            raise BadRequest(f"{member}: columns must be strings, got {name_value(name)}")
    rows = cast("list[object]", data)
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(cast("list[object]", row)) != len(names):
            raise BadRequest(f"{member}: data[{number}] is not a list of {len(names)} cells")
    return Frame(cast("list[str]", names), cast("list[list[object]]", rows))


def from_records(value: object, member: str) -> Frame:
    """Return the frame of ``[{column: cell, …}, …]``.

    Raises:
        BadRequest: it has another form, or records differ in their columns.
    """
    records = cast("list[object]", value) if isinstance(value, list) else []
    if not records:
        raise BadRequest(f"{member} must be a list of at least one object")
    columns: list[str] | None = None
    rows: list[list[object]] = []
    for number, record in enumerate(records):
        if not isinstance(record, dict):
            raise BadRequest(f"{member}[{number}] must be an object, got {name_value(record)}")
        cells = cast("dict[str, object]", record)
        if columns is None:
            columns = list(cells)
        if cells.keys() != set(columns):
            odd = sorted(cells.keys() ^ set(columns))
            raise BadRequest(
                f"{member}[{number}] and {member}[0] differ in the columns {_listed(odd)}"
            )
        rows.append([cells[name] for name in columns])
    return Frame(columns or [], rows)


def from_csv(content: bytes) -> Frame:
    """Return the frame of a CSV file, whose first line has the column names.

    Raises:
        BadRequest: it is not UTF-8 or no CSV, or a line has more or fewer cells than the first.
    """
    try:
        text = content.decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        lines = [(line, reader.line_num) for line in reader if line]
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8: byte {error.start} cannot be decoded") from None
    except csv.Error as error:
        raise BadRequest(f"the body is not CSV: {error}") from None
    if not lines:
        raise BadRequest("the body is empty, expected CSV with the column names in its first line")
    columns = lines[0][0]
    rows = lines[1:]
    for line, number in rows:
        if len(line) != len(columns):
            raise BadRequest(
                f"line {number} of the CSV has {len(line)} cells, its first has {len(columns)}"
            )
    return Frame(columns, [cast("list[object]", line) for line, _ in rows], text=True)


def to_inputs(model: Model, frame: Frame) -> dict[str, Array]:
    """Return the inputs that the columns of a frame make, whatever their order.

    Columns that the model does not know are left aside.

    Raises:
        BadRequest: a column is missing or there twice, which column is meant cannot be known, or
            a cell does not fit.
    """
    places = _places(frame)
    if not frame.rows:
        raise BadRequest("the data have columns and no rows: there is nothing to predict")
    inputs: dict[str, Array] = {}
    for spec in model.signature.inputs:
        wanted = _wanted(model, spec, frame, places)
        gaps = model.takes_missing and spec.datatype.dtype.kind == "f"
        values = _values(spec, frame, wanted, places, gaps=gaps)
        array = _with_gaps(spec, values) if gaps else from_nested(spec, values)
        check_shape(spec, array.shape)
        inputs[spec.name] = array
    return inputs


def _places(frame: Frame) -> dict[str, int]:
    """Return where each column is; of a CSV file also by its name without spaces around it."""
    names = [name.strip() for name in frame.columns] if frame.text else frame.columns
    places = {name: place for place, name in enumerate(names)}
    if len(places) < len(names):
        ((name, count),) = Counter(names).most_common(1)
        raise BadRequest(f"the column {name[:100]!r} is there {count} times")
    return places | {name: place for place, name in enumerate(frame.columns)}


def _wanted(model: Model, spec: TensorSpec, frame: Frame, places: Mapping[str, int]) -> list[str]:
    """Return the columns of an input, in its order."""
    listed = model.columns.get(spec.name)
    if listed is not None:
        missing = [name for name in listed if name not in places]
        if missing:
            raise BadRequest(
                f"input {spec.name!r} needs the columns {_listed(listed)};"
                f" missing: {_listed(missing)}"
            )
        return list(listed)
    if spec.name in places:
        return [spec.name]
    if len(model.signature.inputs) == 1 and len(frame.columns) == 1:
        return frame.columns
    if len(model.signature.inputs) > 1:
        raise BadRequest(
            f"there is no column for input {spec.name!r}; the request has {_listed(frame.columns)}"
        )
    raise BadRequest(
        f"the model does not say in which order input {spec.name!r} takes the columns"
        f" {_listed(frame.columns)}, and the order of a request is no evidence: add the metadata"
        ' property columns to the model ({"' + spec.name + '": ["…", …]}), or send rows of values'
        " without names (instances or inputs)"
    )


def _values(
    spec: TensorSpec,
    frame: Frame,
    wanted: Sequence[str],
    places: Mapping[str, int],
    *,
    gaps: bool,
) -> list[object]:
    """Return the cells as nested lists of the input's shape: a row is a cell, or a list of them.

    With ``gaps`` an empty cell of CSV is None, as null is.
    """
    chosen = [places[name] for name in wanted]
    rows = [[row[place] for place in chosen] for row in frame.rows]
    if frame.text:
        rows = [
            [
                None if gaps and cell == "" else _parse(spec, cell, name)
                for cell, name in zip(row, wanted, strict=True)
            ]
            for row in rows
        ]
    one = len(wanted) == 1
    holds_lists = one and any(isinstance(row[0], list) for row in rows)
    rank = len(spec.shape) if spec.shape else None
    if one and (holds_lists or rank == 1):
        return [row[0] for row in rows]
    return cast("list[object]", rows)


def _with_gaps(spec: TensorSpec, values: list[object]) -> Array:
    """Make an array of numbers in which cells that are None are NaN."""
    rows = [cast("list[object]", row) if isinstance(row, list) else [row] for row in values]
    if not any(None in row for row in rows):
        return from_nested(spec, values)
    filled = [[0.0 if cell is None else cell for cell in row] for row in rows]
    array = from_nested(spec, filled).copy()
    array[np.array([[cell is None for cell in row] for row in rows])] = math.nan
    return array if isinstance(values[0], list) else array.reshape(-1)


def _parse(spec: TensorSpec, cell: object, column: str) -> object:
    text = str(cell).strip()
    try:
        if "_" in text and spec.datatype.kind != "O":
            raise ValueError  # Python would read 1_000 as a number.
        match spec.datatype.kind:
            case "f":
                return _finite(float(text))
            case "i" | "u":
                return int(text)
            case "b":
                return _BOOLEANS[text.lower()]
            case _:
                return cell
    except (ValueError, KeyError):
        raise BadRequest(
            f"column {column[:100]!r}: {text[:40]!r} is no {spec.datatype.name}"
        ) from None


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError
    return number


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:100]) for name in names[:_SHOWN]) or "none"
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"

"""Files as inputs of a model: CSV, .npy, .npz and pictures, as the body of a request."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slipway import files, terminal
from slipway.errors import InvalidArguments
from slipway.model.signature import DTYPES, Array
from slipway.model.tensor import Tensor
from slipway.serving import images
from slipway.validation import cases


def signature(metadata: Any) -> tuple[Tensor, ...]:
    """Return the inputs that a server's model metadata names; -1 becomes None."""
    return tuple(
        Tensor(
            str(entry["name"]),
            str(entry["datatype"]),
            tuple(None if size < 0 else int(size) for size in entry["shape"]) or None,
        )
        for entry in metadata["inputs"]
    )


def columns_in(config: Any) -> dict[str, list[str]]:
    """Return the columns of each input that a server's model configuration lists, if any."""
    told = config.get("parameters", {}).get("columns", {}).get("string_value", "{}")
    found: dict[str, list[str]] = json.loads(told)
    return found


def arrays_of(
    path: Path,
    inputs: Sequence[Tensor],
    picture: images.Wishes,
    columns: Mapping[str, Sequence[str]],
) -> dict[str, Array]:
    """Return an array for each input from a .csv, .npy, .npz or image file.

    ``columns`` are those that the model lists.

    Raises:
        NotFound, InvalidArguments, MissingExtra: the file cannot be read, or does not fit.
    """
    if path.suffix.lower() in images.SUFFIXES:
        if len(inputs) != 1:
            raise InvalidArguments(
                f"the model has {len(inputs)} inputs, and a picture is for one",
                "send .npz, one array for each input",
            )
        form = images.form_of(inputs[0], picture.layout)
        pixels = images.read(path, form)
        arrays = {inputs[0].name: images.as_input(pixels, inputs[0], form, picture)}
    elif path.suffix == ".csv":
        try:
            text = files.require_file(path).read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise InvalidArguments(f"{path} is not UTF-8", "write it with that encoding") from None
        arrays = from_csv(text, str(path), inputs, columns)
    else:
        arrays = dict(cases.given(path, inputs, ()).inputs)
    return {tensor.name: arrays[tensor.name] for tensor in inputs}


def infer_body(
    inputs: Sequence[Tensor], arrays: Mapping[str, Array]
) -> tuple[bytes, dict[str, str]]:
    """Return the body of an inference request, and its headers.

    Values that are not finite, for which JSON has no form, go behind it in binary.
    """
    tensors: list[dict[str, Any]] = []
    behind: list[bytes] = []
    for tensor in inputs:
        array = arrays[tensor.name]
        entry: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(array.shape),
        }
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            content = array.astype(array.dtype.newbyteorder("<")).tobytes()
            entry["parameters"] = {"binary_data_size": len(content)}
            behind.append(content)
        else:
            entry["data"] = array.ravel().tolist()
        tensors.append(entry)
    head = json.dumps({"inputs": tensors}).encode()
    if not behind:
        return head, {"Content-Type": "application/json"}
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }
    return head + b"".join(behind), headers


def from_csv(
    text: str,
    where: str,
    inputs: Sequence[Tensor],
    columns: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Array]:
    """Read rows: one input takes all columns, several take one each, by the names in the header.

    A first row is a header where it holds the inputs' names, or what is no number for an input
    of numbers. ``columns`` are those that the model lists: under a header they come in that order,
    whatever the file's. An empty cell is a missing value (NaN) of an input of fractions.

    Raises:
        InvalidArguments: a value does not fit its input, or columns are missing.
    """
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    if not rows:
        raise InvalidArguments(f"{where} is empty", "one row for each inference")
    if len(inputs) > 1:
        header, rows = rows[0], rows[1:]
        missing = [tensor.name for tensor in inputs if tensor.name not in header]
        if missing:
            raise InvalidArguments(
                f"{where} has no column {missing[0]!r}",
                f"the first row names the columns: {', '.join(t.name for t in inputs)}",
            )
        return {
            tensor.name: _column(
                [[row[header.index(tensor.name)]] for row in rows], where, tensor, first_line=2
            )
            for tensor in inputs
        }
    (tensor,) = inputs
    listed = (columns or {}).get(tensor.name)
    named = listed is not None and not {cell.strip() for cell in rows[0]}.isdisjoint(listed)
    first_line = 1
    if named or (
        tensor.datatype != "BYTES" and not all(_is_number(cell) or not cell for cell in rows[0])
    ):
        header, rows, first_line = rows[0], rows[1:], 2
        if listed is not None:
            rows = _in_order(header, rows, where, listed)
        elif len(header) > 1:
            terminal.warn(
                f"the model lists no columns, so those of {where} are taken in their order"
            )
    return {tensor.name: _column(rows, where, tensor, first_line)}


def _in_order(
    header: Sequence[str], rows: Sequence[Sequence[str]], where: str, listed: Sequence[str]
) -> list[list[str]]:
    names = [cell.strip() for cell in header]
    known = ", ".join(listed)
    for name in listed:
        if names.count(name) != 1:
            problem = "twice the" if name in names else "no"
            raise InvalidArguments(
                f"{where} has {problem} column {name!r}", f"the model's columns are {known}"
            )
    if unknown := [name for name in names if name not in listed]:
        raise InvalidArguments(
            f"{where} has a column {unknown[0]!r}, which the model does not know",
            f"leave it out; the model's columns are {known}",
        )
    places = [names.index(name) for name in listed]
    for number, row in enumerate(rows, 2):
        if len(row) != len(names):
            raise InvalidArguments(f"{where}, row {number}: {len(row)} values, not {len(names)}")
    return [[row[place] for place in places] for row in rows]


def _column(rows: Sequence[Sequence[str]], where: str, tensor: Tensor, first_line: int) -> Array:
    width = len(rows[0]) if rows else 0
    dtype = DTYPES[tensor.datatype]
    for number, row in enumerate(rows, first_line):
        if len(row) != width:
            raise InvalidArguments(f"{where}, row {number}: {len(row)} values, not {width}")
        for cell in row:
            if dtype.kind == "f" and not cell.strip():
                continue
            if tensor.datatype != "BYTES" and not _is_number(cell):
                raise InvalidArguments(f"{where}, row {number}: {cell!r} is no number")
    try:
        if dtype.kind in "OS":
            found = np.array(rows, dtype=object)
        elif dtype.kind in "iu":
            found = np.array([[int(cell) for cell in row] for row in rows], dtype=dtype)
        else:
            found = np.array([[_fraction(cell) for cell in row] for row in rows]).astype(dtype)
    except (ValueError, OverflowError) as error:
        raise InvalidArguments(f"{where} does not fit {tensor.name!r}: {error}") from None
    return found.reshape(len(rows)) if tensor.shape and len(tensor.shape) == 1 else found


def _fraction(cell: str) -> float:
    return float(cell) if cell.strip() else math.nan


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True

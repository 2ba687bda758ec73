"""Files as inputs of a model: CSV, .npy, .npz and pictures, as the body of a request."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slipway import files
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


def infer_body(path: Path, inputs: Sequence[Tensor], picture: images.Wishes) -> bytes:
    """Return the body of an inference request for a .csv, .npy, .npz or image file.

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
        text = files.require_file(path).read_text(encoding="utf-8-sig")
        arrays = from_csv(text, str(path), inputs)
    else:
        arrays = dict(cases.given(path, inputs, ()).inputs)
    return json.dumps({"inputs": [_tensor(t, arrays[t.name]) for t in inputs]}).encode()


def from_csv(text: str, where: str, inputs: Sequence[Tensor]) -> dict[str, Array]:
    """Read rows: one input takes all columns, several take one each, by the names in the header.

    A first row is a header where it holds the inputs' names, or what is no number for an input
    of numbers.

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
    first_line = 1
    if tensor.datatype != "BYTES" and not all(_is_number(cell) for cell in rows[0]):
        rows, first_line = rows[1:], 2
    return {tensor.name: _column(rows, where, tensor, first_line)}


def _column(rows: Sequence[Sequence[str]], where: str, tensor: Tensor, first_line: int) -> Array:
    width = len(rows[0]) if rows else 0
    for number, row in enumerate(rows, first_line):
        if len(row) != width:
            raise InvalidArguments(f"{where}, row {number}: {len(row)} values, not {width}")
        for cell in row:
            if tensor.datatype != "BYTES" and not _is_number(cell):
                raise InvalidArguments(f"{where}, row {number}: {cell!r} is no number")
    dtype = DTYPES[tensor.datatype]
    try:
        if dtype.kind in "OS":
            found = np.array(rows, dtype=object)
        elif dtype.kind in "iu":
            found = np.array([[int(cell) for cell in row] for row in rows], dtype=dtype)
        else:
            found = np.array([[float(cell) for cell in row] for row in rows]).astype(dtype)
    except (ValueError, OverflowError) as error:
        raise InvalidArguments(f"{where} does not fit {tensor.name!r}: {error}") from None
    return found.reshape(len(rows)) if tensor.shape and len(tensor.shape) == 1 else found


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _tensor(tensor: Tensor, array: Array) -> dict[str, Any]:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InvalidArguments(f"{tensor.name!r} holds values that are not finite")
    return {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": list(array.shape),
        "data": array.ravel().tolist(),
    }

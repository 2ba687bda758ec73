"""``slipway predict``: data to a served model."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, cast

import click

from slipway import files, terminal
from slipway.commands.values import FRACTIONS
from slipway.errors import InvalidArguments, NotFound
from slipway.options import FILE, json_option
from slipway.serving import images
from slipway.serving.http import ask
from slipway.serving.inputs import arrays_of, columns_in, infer_body, signature

_CELL_VALUES = 8
_ROWS_SHOWN = 50


@click.command("predict")
@click.argument("data", type=FILE)
@click.option("--url", default="http://localhost:8080", show_default=True, help="The server.")
@click.option("--name", help="The model's name; default: what the server says.")
@click.option("--timeout", type=float, default=60.0, show_default=True, help="Seconds to wait.")
@click.option(
    "--layout",
    type=click.Choice(images.LAYOUTS),
    help="Of a picture: where the channels are; default: what the input's shape says.",
)
@click.option(
    "--scale",
    type=click.FloatRange(min=0, min_open=True),
    default=255,
    show_default=True,
    help="What pixels (0 to 255) are divided by, for an input of fractions.",
)
@click.option("--mean", type=FRACTIONS, default="", help="Then subtracted, for each channel.")
@click.option("--std", type=FRACTIONS, default="", help="Then divided by, for each channel.")
@json_option
def command(
    data: Path,
    url: str,
    name: str | None,
    timeout: float,
    layout: str | None,
    scale: float,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    as_json: bool,
) -> None:
    """Send data to a served model, and print what it answers.

    DATA is a .csv, .npy or .npz file, a picture (.png, .jpg), or JSON in any form that the server
    takes; - reads JSON from stdin. A picture is resized to what the input's shape says.
    """
    base = url.rstrip("/")
    if data.suffix.lower() in (".csv", ".npy", ".npz", *images.SUFFIXES):
        called = name or str(ask(f"{base}/health", timeout=timeout).get("model", ""))
        model = f"{base}/v2/models/{called}"
        inputs = signature(ask(model, timeout=timeout))
        columns = _columns(model, timeout) if data.suffix.lower() == ".csv" else {}
        picture = images.Wishes(layout or "", scale, mean, std)
        body, headers = infer_body(inputs, arrays_of(data, inputs, picture, columns))
        answer = ask(f"{model}/infer", body, timeout, headers)
        outputs = {item["name"]: _nested(item["data"], item["shape"]) for item in answer["outputs"]}
    else:
        body = _json(data)
        answer = outputs = ask(f"{base}/predict", body, timeout)
    if as_json:
        terminal.print_json(answer)
    else:
        _show(outputs)


def _columns(model: str, timeout: float) -> dict[str, list[str]]:
    """Return the columns that the model lists; other servers of the protocol tell none."""
    try:
        return columns_in(ask(f"{model}/config", timeout=timeout))
    except NotFound:
        return {}


def _json(path: Path) -> bytes:
    content = sys.stdin.read() if str(path) == "-" else files.require_file(path).read_text("utf-8")
    try:
        json.loads(content)
    except ValueError as error:
        raise InvalidArguments(
            f"{path} is no JSON: {error}", "other data comes as .csv, .npy, .npz, .png or .jpg"
        ) from None
    return content.encode()


def _nested(flat: list[Any], shape: list[int]) -> list[Any]:
    """Return the rows of a flat list in row-major order."""
    for size in reversed(shape[1:]):
        flat = [flat[start : start + size] for start in range(0, len(flat), size or 1)]
    return flat


def _show(outputs: Any) -> None:
    if not isinstance(outputs, dict):
        click.echo(json.dumps(outputs))
        return
    named = cast("dict[str, Any]", outputs)
    columns = {name: _rows(value) for name, value in named.items()}
    count = max((len(values) for values in columns.values()), default=0)
    rows = [
        [str(index), *(_cell(values, index) for values in columns.values())]
        for index in range(min(count, _ROWS_SHOWN))
    ]
    terminal.print_table(("row", *columns), rows)
    if count > _ROWS_SHOWN:
        click.echo(f"and {count - _ROWS_SHOWN} more rows; --json prints all")


def _rows(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else [value]


def _cell(values: list[Any], index: int) -> str:
    if index >= len(values):
        return ""
    value = values[index]
    if not isinstance(value, list):
        return _number(value)
    items = cast("list[Any]", value)
    shown = [_number(item) for item in items[:_CELL_VALUES]]
    return "  ".join([*shown, "…"] if len(items) > _CELL_VALUES else shown)


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)

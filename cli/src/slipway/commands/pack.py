"""``slipway pack``: a package from a model."""

from __future__ import annotations

import re
from pathlib import Path

import click

from slipway import terminal
from slipway.commands.values import DIMENSION, NAMES, PAIR, RANGE, TOLERANCE
from slipway.options import FILE, json_option
from slipway.package.build import Wishes, build
from slipway.validation.cases import Plan
from slipway.validation.compare import Tolerance


@click.command("pack")
@click.argument("model", type=FILE)
@click.option("--out", type=FILE, help="The folder to make; default: NAME.slipway.")
@click.option("--name", help="The model's name; default: that of the file.")
@click.option(
    "--columns",
    type=NAMES,
    multiple=True,
    help="Names of an input: x=age,income; else the model's.",
)
@click.option(
    "--labels",
    type=NAMES,
    multiple=True,
    help="Names of an output: y=no,yes; else the model's.",
)
@click.option(
    "--samples", type=FILE, multiple=True, help="Golden samples as .npz (see slipway validate)."
)
@click.option(
    "--golden/--no-golden", default=True, help="Make golden samples where none are given (default)."
)
@click.option(
    "--dim", type=DIMENSION, multiple=True, help="Sizes of a symbolic dimension: sequence=8,32."
)
@click.option(
    "--range", "ranges", type=RANGE, multiple=True, help="Values of made samples: ids=0:30000."
)
@click.option("--rtol", type=TOLERANCE, default=1e-3, show_default=True, help="Of golden outputs.")
@click.option("--atol", type=TOLERANCE, default=1e-5, show_default=True, help="Of golden outputs.")
@click.option("--max-batch-size", type=click.IntRange(min=1), help="Hint: serve no larger batches.")
@click.option("--meta", type=PAIR, multiple=True, help="Say more about it: licence=Apache-2.0.")
@json_option
def command(
    model: Path,
    out: Path | None,
    name: str | None,
    columns: tuple[tuple[str, tuple[str, ...]], ...],
    labels: tuple[tuple[str, tuple[str, ...]], ...],
    samples: tuple[Path, ...],
    golden: bool,
    dim: tuple[tuple[str, tuple[int, ...]], ...],
    ranges: tuple[tuple[str, tuple[float, float]], ...],
    rtol: float,
    atol: float,
    max_batch_size: int | None,
    meta: tuple[tuple[str, str], ...],
    as_json: bool,
) -> None:
    """Make a package: the model, what belongs to it, and slipway.json.

    One digest, that of slipway.json, then pins every file. Golden samples are inputs with the
    outputs that the model gives for them here; whoever serves it can compare.
    """
    chosen = name or _name_of(model)
    plan = Plan((1, 2), (0,), dict(dim), dict(ranges), edges=False) if golden else None
    wishes = Wishes(
        name=chosen,
        columns=dict(columns),
        labels=dict(labels),
        samples=samples,
        plan=plan,
        tolerance=Tolerance(rtol, atol),
        serving={} if max_batch_size is None else {"maxBatchSize": max_batch_size},
        metadata=dict(meta),
    )
    folder = out or Path(f"{chosen}.slipway")
    manifest, digest = build(model, folder, wishes)
    told = {
        "package": str(folder),
        "digest": digest,
        "size": manifest.size,
        "files": [vars(file) | {"chunks": len(file.chunks)} for file in manifest.files],
    }
    if as_json:
        terminal.print_json(told)
        return
    terminal.print_facts([("package", str(folder)), ("digest", digest)])
    terminal.print_table(
        ("file", "role", "size", "digest"),
        [(f.path, f.role, terminal.size(f.size), f.digest) for f in manifest.files],
    )


def _name_of(model: Path) -> str:
    """Return a name that a ModelDeployment may have too."""
    stem = model.resolve().parent.name if model.stem == "model" else model.stem
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:50] or "model"

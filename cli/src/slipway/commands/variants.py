"""What ``slipway quantize`` and ``slipway optimize`` share: options, data, and the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from slipway import files, terminal
from slipway.commands.values import DIMENSION, RANGE
from slipway.errors import BoundsMissed, InvalidArguments
from slipway.model.signature import Tensor
from slipway.options import FILE, json_option
from slipway.validation import cases
from slipway.variants import data, page, report
from slipway.variants.data import Data
from slipway.variants.run import Outcome

F = TypeVar("F", bound=Callable[..., Any])

_BATCH_TO_COMPARE = 16


def measuring_options(command: F) -> F:
    """Add the options about data, timing and the report."""
    for option in (
        json_option,
        click.option("--html", type=FILE, help="Write the report as a page with plots."),
        click.option("--report", "report_file", type=FILE, help="Write the report as JSON."),
        click.option(
            "--threads",
            type=click.IntRange(min=1),
            default=1,
            show_default=True,
            help="ONNX Runtime's threads while it is timed.",
        ),
        click.option(
            "--rounds",
            type=click.IntRange(min=10),
            default=40,
            show_default=True,
            help="Paired rounds of timing.",
        ),
        click.option(
            "--batch-size",
            type=click.IntRange(min=1),
            default=1,
            show_default=True,
            help="Rows of a timed run.",
        ),
        click.option(
            "--range", "ranges", type=RANGE, multiple=True, help="Random values: ids=0:30000."
        ),
        click.option(
            "--dim", type=DIMENSION, multiple=True, help="Sizes of random inputs: sequence=32."
        ),
        click.option(
            "--labelled",
            type=FILE,
            help="Inputs as .npz with the class of each row as labels: accuracy is compared.",
        ),
        click.option("--samples", type=FILE, help="Inputs to compare on, as .npz; else random."),
    ):
        command = option(command)
    return command


def to_compare(
    inputs: Sequence[Tensor], samples: Path | None, labelled: Path | None, plan: cases.Plan
) -> Data:
    """Read or make what the outputs are compared on.

    Raises:
        NotFound, InvalidArguments: a file is not there, or does not fit the model.
    """
    if samples is not None and labelled is not None:
        raise InvalidArguments("--samples and --labelled exclude each other")
    path = labelled or samples
    if path is None:
        return data.made(inputs, plan, _BATCH_TO_COMPARE)
    found = data.given(path, inputs, _BATCH_TO_COMPARE)
    if labelled is not None and found.labels is None:
        raise InvalidArguments(
            f"{labelled} holds no array {data.LABELS!r}", "it is the class of each row, INT64"
        )
    return found


def tell(
    outcome: Outcome, target: Path, report_file: Path | None, html: Path | None, *, as_json: bool
) -> int:
    """Print and write the report; return the exit code."""
    document = report.as_json(outcome, str(target))
    if report_file is not None:
        files.write(report_file, (terminal.as_text(document) + "\n").encode())
    if html is not None:
        files.write(html, page.render(document).encode())
    if as_json:
        terminal.print_json(document)
    else:
        report.show(document)
        if outcome.kept is not None:
            terminal.print_facts(
                [("model", str(target)), ("digest", outcome.kept.candidate.digest)]
            )
    if outcome.kept is not None:
        return 0
    if not as_json:
        click.echo(f"{target} was not written: no variant holds the bounds", err=True)
    return BoundsMissed.exit_code

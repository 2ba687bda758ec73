"""What ``slipway quantize`` and ``slipway optimize`` share: options, data, and the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import wraps
from pathlib import Path
from typing import Any

import click
import onnx

from slipway import files, terminal
from slipway.commands.values import DIMENSION, RANGE
from slipway.errors import BoundsMissed, InvalidArguments
from slipway.model.signature import inputs_with_typical
from slipway.model.tensor import Tensor
from slipway.options import FILE, WRITTEN, json_option
from slipway.validation.cases import Plan as Values
from slipway.variants import data, methods, page, report
from slipway.variants.data import Data
from slipway.variants.run import Outcome, Plan, run
from slipway.variants.verdict import Bounds

_BATCH_TO_COMPARE = 16


@dataclass(frozen=True)
class Measuring:
    """The options of both commands: data to compare on, timing, bounds, and the reports."""

    samples: Path | None
    labelled: Path | None
    values: Values
    batch_size: int
    rounds: int
    threads: int
    max_size: float
    min_speed_up: float
    report_file: Path | None
    html: Path | None
    as_json: bool

    def plan(
        self,
        model: onnx.ModelProto,
        ways: tuple[str, ...],
        wishes: methods.Wishes,
        bounds: Bounds,
        calibrated: Data | None = None,
    ) -> Plan:
        """Return what is to be made, measured and judged; ``bounds`` are those of the outputs.

        Raises:
            NotFound, InvalidArguments: the data is not there, or does not fit the model.
        """
        return Plan(
            ways,
            wishes,
            replace(bounds, max_size=self.max_size, min_speed_up=self.min_speed_up),
            _to_compare(inputs_with_typical(model), self.samples, self.labelled, self.values),
            calibrated,
            self.batch_size,
            self.rounds,
            self.threads,
        )


def measured(*, max_size: float, min_speed_up: float) -> Callable[[Callable[..., int]], Any]:
    """Add the options that both commands have, with these defaults of the bounds.

    The command gets them as one `Measuring`, under ``measuring``.
    """
    options: tuple[Callable[[Any], Any], ...] = (
        json_option,
        click.option("--html", type=WRITTEN, help="Write the report as a page with plots."),
        click.option("--report", "report_file", type=WRITTEN, help="Write the report as JSON."),
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
        click.option(
            "--min-speed-up",
            type=float,
            default=min_speed_up,
            show_default=True,
            help="Times as fast, by the lower end of the 95 % interval; 0 takes any.",
        ),
        click.option(
            "--max-size", type=float, default=max_size, show_default=True, help="Of the original's."
        ),
    )

    def decorate(command: Callable[..., int]) -> Any:
        @wraps(command)
        def collected(
            *,
            dim: tuple[tuple[str, tuple[int, ...]], ...],
            ranges: tuple[tuple[str, tuple[float, float]], ...],
            **given: Any,
        ) -> int:
            names = [field.name for field in fields(Measuring) if field.name != "values"]
            shared = {name: given.pop(name) for name in names}
            values = Values((1,), (0,), dict(dim), dict(ranges), edges=False)
            return command(measuring=Measuring(values=values, **shared), **given)

        wrapped: Any = collected
        for option in options:
            wrapped = option(wrapped)
        return wrapped

    return decorate


def make(model: Path, target: Path, plan: Plan, measuring: Measuring) -> int:
    """Make, judge and report the variants, and return the exit code.

    Raises:
        InvalidArguments: the original itself would be replaced.
    """
    if target.resolve() == model.resolve():
        raise InvalidArguments(
            f"--out {target} is the model itself, which would be lost", "name another file"
        )
    outcome = run(model, target, plan)
    return _tell(outcome, target, measuring)


def _to_compare(
    inputs: Sequence[Tensor], samples: Path | None, labelled: Path | None, values: Values
) -> Data:
    """Read or make what the outputs are compared on.

    Raises:
        NotFound, InvalidArguments: a file is not there, or does not fit the model.
    """
    if samples is not None and labelled is not None:
        raise InvalidArguments("--samples and --labelled exclude each other")
    path = labelled or samples
    if path is None:
        return data.made(inputs, values, _BATCH_TO_COMPARE)
    found = data.given(path, inputs, _BATCH_TO_COMPARE)
    if labelled is not None and found.labels is None:
        raise InvalidArguments(
            f"{labelled} holds no array {data.LABELS!r}", "it is the class of each row, INT64"
        )
    return found


def _tell(outcome: Outcome, target: Path, measuring: Measuring) -> int:
    """Print and write the report; return the exit code."""
    document = report.as_json(outcome, str(target))
    if measuring.report_file is not None:
        files.write(measuring.report_file, (terminal.as_text(document) + "\n").encode())
    if measuring.html is not None:
        files.write(measuring.html, page.render(document).encode())
    if measuring.as_json:
        terminal.print_json(document)
    else:
        report.show(document)
        if outcome.kept is not None:
            terminal.print_facts(
                [("model", str(target)), ("digest", outcome.kept.candidate.digest)]
            )
    if outcome.kept is not None:
        return 0
    if not measuring.as_json:
        click.echo(f"{target} was not written: no variant holds the bounds", err=True)
    return BoundsMissed.exit_code

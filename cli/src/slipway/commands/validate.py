"""``slipway validate``: whether a model computes what it should."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from slipway import files, terminal
from slipway.commands.values import DIMENSION, NUMBERS, RANGE, SIZES, TOLERANCE
from slipway.errors import Differs, InvalidArguments
from slipway.model.tensor import Tensor
from slipway.options import FILE, WRITTEN, json_option
from slipway.validation import cases, check, report
from slipway.validation.cases import Case, Plan
from slipway.validation.check import Outcome
from slipway.validation.compare import Tolerance
from slipway.validation.divergence import first_divergence


@click.command("validate")
@click.argument("model", type=FILE)
@click.option("--against", type=FILE, help="An .onnx file that must compute the same.")
@click.option(
    "--samples",
    type=FILE,
    multiple=True,
    help="Inputs as .npz, arrays by input name; arrays named as outputs are what must come.",
)
@click.option(
    "--random/--no-random", "random", default=True, help="Make random inputs too (default)."
)
@click.option("--batch-sizes", type=SIZES, default="1,2,5", show_default=True)
@click.option("--seeds", type=NUMBERS, default="0,1", show_default=True)
@click.option(
    "--dim", type=DIMENSION, multiple=True, help="Sizes of a symbolic dimension: sequence=8,32."
)
@click.option(
    "--range", "ranges", type=RANGE, multiple=True, help="Random values: 0:30000 or ids=0:30000."
)
@click.option("--rtol", type=TOLERANCE, default=1e-3, show_default=True, help="Relative tolerance.")
@click.option("--atol", type=TOLERANCE, default=1e-5, show_default=True, help="Absolute tolerance.")
@click.option(
    "--save-samples", type=WRITTEN, help="Write a case with its outputs to this .npz file."
)
@json_option
def command(
    model: Path,
    against: Path | None,
    samples: tuple[Path, ...],
    random: bool,
    batch_sizes: tuple[int, ...],
    seeds: tuple[int, ...],
    dim: tuple[tuple[str, tuple[int, ...]], ...],
    ranges: tuple[tuple[str, tuple[float, float]], ...],
    rtol: float,
    atol: float,
    save_samples: Path | None,
    as_json: bool,
) -> int:
    """Check a model, and compare what it computes.

    Runs ONNX's checker and shape inference, then ONNX Runtime on random inputs of several batch
    sizes and on given ones. Compared with --against, with the outputs in --samples, or else a
    batch with its rows one by one. The exit code is 4 when something differs.
    """
    inputs, outputs = check.check_form(model)
    tolerance = Tolerance(rtol, atol)
    plan = Plan(batch_sizes, seeds, dict(dim), dict(ranges))
    chosen = [cases.given(path, inputs, outputs) for path in samples]
    chosen += cases.made(inputs, plan) if random else []
    if not chosen:
        raise InvalidArguments(
            "there is nothing to run", "give --samples, or leave out --no-random"
        )
    if against is not None:
        _require_same_inputs(inputs, check.check_form(against)[0], against)
        outcome = check.compare_with_model(model, chosen, against, tolerance)
    else:
        outcome = check.compare_with_itself(model, chosen, inputs, outputs, tolerance)
    where = _where(model, against, outcome, tolerance)
    if as_json:
        terminal.print_json(report.as_json(outcome, tolerance, where))
    else:
        report.show(outcome)
        if where:
            click.echo(where)
    if save_samples is not None:
        _save(save_samples, model, chosen[0])
    return 0 if outcome.close else Differs.exit_code


def _where(model: Path, against: Path | None, outcome: Outcome, tolerance: Tolerance) -> str:
    case = outcome.failed_case
    if case is None or against is None:
        return ""
    found = first_divergence(model, against, case.inputs, tolerance)
    return str(found) if found else "the two graphs name no value in common that differs"


def _require_same_inputs(
    inputs: tuple[Tensor, ...], others: tuple[Tensor, ...], against: Path
) -> None:
    ours = {(tensor.name, tensor.datatype) for tensor in inputs}
    theirs = {(tensor.name, tensor.datatype) for tensor in others}
    if ours != theirs:
        listed = ", ".join(f"{name} ({datatype})" for name, datatype in sorted(theirs))
        raise Differs(
            f"{against} has other inputs: {listed}", "export both with the same input names"
        )


def _save(path: Path, model: Path, case: Case) -> None:
    arrays = dict(case.inputs) | check.outputs_of_case(model, case)
    plain = {
        name: array.astype(str) if array.dtype.kind == "O" else array
        for name, array in arrays.items()
    }
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **plain)

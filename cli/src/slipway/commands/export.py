"""``slipway export``: ONNX from PyTorch or scikit-learn, compared with the original."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib import metadata as distributions
from pathlib import Path
from typing import Any

import click

from slipway import files, terminal
from slipway.commands.values import DIMENSION, INPUT, NAMES, NUMBERS, PAIR, RANGE, SIZES, TOLERANCE
from slipway.errors import Differs, InvalidArguments
from slipway.export import run, sklearn_model, source, torch_model
from slipway.export.attempt import Exportable
from slipway.export.mlflow import flavors, loader
from slipway.export.mlflow import folder as mlflow
from slipway.export.mlflow.loader import Wishes
from slipway.export.run import Exported
from slipway.export.source import Kind
from slipway.model.tensor import Tensor
from slipway.options import FILE, WRITTEN, json_option
from slipway.validation import cases, report
from slipway.validation.cases import Case, Plan
from slipway.validation.compare import Tolerance
from slipway.validation.remedies import suggested

_MANY_ROWS = 500


@click.command("export")
@click.argument("model")
@click.option("--out", type=WRITTEN, default=Path("model.onnx"), show_default=True)
@click.option("--state-dict", type=FILE, help="Weights for module:Class; read as weights only.")
@click.option(
    "--input",
    "inputs",
    type=INPUT,
    multiple=True,
    help="An input, in the order of forward(): x=FP32[batch,4]; words are dimensions that vary.",
)
@click.option("--output", "outputs", multiple=True, help="Name of an output; once for each.")
@click.option("--samples", type=FILE, help="Inputs to compare on as well, as .npz.")
@click.option("--random/--no-random", default=True, help="Compare on random inputs too (default).")
@click.option("--opset", type=click.IntRange(min=13), default=20, show_default=True)
@click.option(
    "--exporter",
    type=click.Choice(["auto", "dynamo", "classic"]),
    default="auto",
    show_default=True,
    help="PyTorch's modern or its classic exporter; auto tries one after the other.",
)
@click.option("--validate/--no-validate", default=True, help="Compare with the original (default).")
@click.option("--batch-sizes", type=SIZES, default="1,2,5", show_default=True)
@click.option("--seeds", type=NUMBERS, default="0,1", show_default=True)
@click.option("--dim", type=DIMENSION, multiple=True, help="Sizes to compare on: sequence=8,32.")
@click.option("--range", "ranges", type=RANGE, multiple=True, help="Values: ids=0:30000.")
@click.option("--rtol", type=TOLERANCE, default=1e-3, show_default=True, help="Relative tolerance.")
@click.option("--atol", type=TOLERANCE, default=1e-5, show_default=True, help="Absolute tolerance.")
@click.option("--columns", type=NAMES, multiple=True, help="Names of an input: x=age,income.")
@click.option("--labels", type=NAMES, multiple=True, help="Names of an output: y=no,yes.")
@click.option("--meta", type=PAIR, multiple=True, help="Written into the model: run=42.")
@click.option(
    "--env",
    type=click.Choice(["model", "current"]),
    default="model",
    show_default=True,
    help="Load an MLflow model with its own requirements, or with what is installed here.",
)
@click.option(
    "--trust-pickle", is_flag=True, help="Read pickles, which run code of whoever made them."
)
@json_option
def command(
    model: str,
    out: Path,
    state_dict: Path | None,
    inputs: tuple[Tensor, ...],
    outputs: tuple[str, ...],
    samples: Path | None,
    random: bool,
    opset: int,
    exporter: str,
    validate: bool,
    batch_sizes: tuple[int, ...],
    seeds: tuple[int, ...],
    dim: tuple[tuple[str, tuple[int, ...]], ...],
    ranges: tuple[tuple[str, tuple[float, float]], ...],
    rtol: float,
    atol: float,
    columns: tuple[tuple[str, tuple[str, ...]], ...],
    labels: tuple[tuple[str, tuple[str, ...]], ...],
    meta: tuple[tuple[str, str], ...],
    env: str,
    trust_pickle: bool,
    as_json: bool,
) -> int:
    """Make an ONNX file from a PyTorch, scikit-learn or MLflow model.

    MODEL is module:attribute (a torch.nn.Module, a class of them, or a fitted estimator), a
    TorchScript file, an MLflow model (its folder, models:/NAME/VERSION or runs:/RUN/PATH), or with
    --trust-pickle a pickled estimator or module. The file is compared with the original, and only
    kept when it computes the same (exit code 4 otherwise).
    """
    plan = Plan(batch_sizes, seeds, dict(dim), dict(ranges))
    if not random and samples is None:
        raise InvalidArguments("there is nothing to compare on", "--samples FILE.npz")
    with terminal.own_stdout(), _exportable(
        model, state_dict, Wishes(inputs, outputs, plan, exporter, opset),
        trust_pickle=trust_pickle, current=env == "current",
    ) as found:  # fmt: skip
        exportable = replace(
            found,
            columns=dict(found.columns) | dict(columns),
            labels=dict(found.labels) | dict(labels),
        )
        chosen = _cases(exportable, samples, plan if random else None) if validate else []
        tolerance = Tolerance(rtol, atol)
        done = run.export(
            exportable,
            out,
            chosen,
            tolerance,
            _metadata(model) | dict(meta),
            keep_frozen=exporter == "classic",
        )
    remedies: list[str] = []
    if done.outcome is not None:
        remedies = suggested(done.outcome, exportable.inputs, tolerance) or [exportable.remedy]
    _tell(done, out, tolerance, remedies, as_json=as_json)
    return 0 if done.outcome is None or done.outcome.close else Differs.exit_code


@contextmanager
def _exportable(
    model: str, state: Path | None, wishes: Wishes, *, trust_pickle: bool, current: bool
) -> Generator[Exportable]:
    if source.recognise(model) is Kind.MLFLOW:
        with _mlflow(model, wishes, trust_pickle=trust_pickle, current=current) as found:
            yield found
        return
    loaded = _load(model, state, trust_pickle=trust_pickle)
    if isinstance(loaded, _Estimator):
        yield sklearn_model.exportable(loaded.value, wishes.inputs, opset=wishes.opset)
    else:
        yield _torch(
            loaded, wishes.inputs, wishes.outputs, wishes.plan,
            exporter=wishes.exporter, opset=wishes.opset,
        )  # fmt: skip


@contextmanager
def _mlflow(
    model: str, wishes: Wishes, *, trust_pickle: bool, current: bool
) -> Generator[Exportable]:
    with tempfile.TemporaryDirectory(prefix="slipway-") as folder:
        place = mlflow.download(model, Path(folder)) if flavors.is_uri(model) else Path(model)
        found = mlflow.read(place)
        if not found.runs_code:
            yield loader.copied(found)
            return
        source.require_trust(f"{model} ({found.flavor})", trust_pickle)
        with terminal.working("loading the model in an environment of its own"):
            stack = ExitStack()
            exportable = stack.enter_context(loader.loaded(found, wishes, current=current))
        with stack:
            yield exportable


class _Estimator:
    def __init__(self, value: Any) -> None:
        self.value = value


def _load(model: str, state: Path | None, *, trust_pickle: bool) -> Any:
    kind = source.recognise(model)
    if kind is Kind.PICKLE:
        source.require_trust(model, trust_pickle)
        return _Estimator(sklearn_model.unpickle(Path(model)))
    if kind is Kind.PYTHON:
        found = source.attribute(model)
        if sklearn_model.is_estimator(found):
            return _Estimator(found)
    return torch_model.load(model, kind, state, trust_pickle=trust_pickle)


def _torch(
    module: Any,
    inputs: Sequence[Tensor],
    outputs: Sequence[str],
    plan: Plan,
    *,
    exporter: str,
    opset: int,
) -> Exportable:
    if not inputs:
        raise InvalidArguments(
            "it is not known what the model takes",
            "--input NAME=FP32[batch,4], once for each parameter of forward()",
        )
    # Sizes above 1, since exporters take 1 for a constant.
    example = cases.made(inputs, Plan((3,), (0,), plan.dimensions, plan.ranges, edges=False))[0]
    return torch_model.exportable(
        module, inputs, example.inputs, outputs, exporter=exporter, opset=opset
    )


def _cases(exportable: Exportable, samples: Path | None, plan: Plan | None) -> list[Case]:
    chosen = [cases.given(samples, exportable.inputs, ())] if samples is not None else []
    if plan is not None:
        plan = replace(plan, usual=exportable.ranges)
        chosen += cases.made(exportable.inputs, plan)
        if exportable.framework == "scikit-learn":
            # Estimators are quick, and few rows would reach only few branches of a forest.
            many = replace(plan, batch_sizes=(_MANY_ROWS,), seeds=plan.seeds[:1], edges=False)
            chosen += cases.made(exportable.inputs, many)
            # Where whole numbers are scaled, trees split at just these.
            chosen += cases.made(exportable.inputs, replace(many, whole=True))
    return chosen


def _metadata(model: str) -> dict[str, str]:
    told = {"slipway": distributions.version("slipway"), "source": model}
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return told
    return told | {"source_commit": done.stdout.strip()}


def _tell(
    done: Exported, out: Path, tolerance: Tolerance, remedies: Sequence[str], *, as_json: bool
) -> None:
    close = done.outcome is None or done.outcome.close
    digest = files.digest(out) if close else None
    for text in done.warnings:
        terminal.warn(text)
    if as_json:
        terminal.print_json(
            {
                "model": str(out) if close else None,
                "digest": digest,
                "exporter": done.exporter,
                "failures": list(done.failures),
                "warnings": list(done.warnings),
                "remedies": [] if close else [remedy for remedy in remedies if remedy],
                "validation": report.as_json(done.outcome, tolerance) if done.outcome else None,
            }
        )
        return
    if done.outcome is not None:
        report.show(done.outcome)
    for failure in done.failures:
        terminal.note(f"tried before: {failure}")
    if digest is None:
        click.echo(f"{out} was not written: the exported model computes something else", err=True)
        for remedy in filter(None, remedies):
            click.echo(f"  try: {remedy}", err=True)
        return
    terminal.print_facts([("model", str(out)), ("digest", digest), ("exporter", done.exporter)])

"""``slipway optimize``: the graph as ONNX Runtime has it after its optimizations."""

from __future__ import annotations

from pathlib import Path

import click

from slipway.commands import variants
from slipway.model import graph as graphs
from slipway.model.signature import inputs_of
from slipway.options import FILE
from slipway.validation.cases import Plan as Values
from slipway.variants import methods
from slipway.variants.run import Plan, run
from slipway.variants.verdict import Bounds


@click.command("optimize")
@click.argument("model", type=FILE)
@click.option("--out", type=FILE, help="The file to write; default: MODEL.optimized.onnx.")
@click.option(
    "--level",
    type=click.Choice(["basic", "extended"]),
    default="extended",
    show_default=True,
    help="basic keeps to ONNX's operators; extended fuses them into ONNX Runtime's own.",
)
@click.option("--max-size", type=float, default=1.05, show_default=True, help="Of the original's.")
@click.option(
    "--min-speed-up",
    type=float,
    default=0.9,
    show_default=True,
    help="Times as fast, by the lower end of the 95 % interval; 0 takes any.",
)
@variants.measuring_options
def command(
    model: Path,
    out: Path | None,
    level: str,
    max_size: float,
    min_speed_up: float,
    samples: Path | None,
    labelled: Path | None,
    dim: tuple[tuple[str, tuple[int, ...]], ...],
    ranges: tuple[tuple[str, tuple[float, float]], ...],
    batch_size: int,
    rounds: int,
    threads: int,
    report_file: Path | None,
    html: Path | None,
    as_json: bool,
) -> int:
    """Write the graph as ONNX Runtime would optimize it, and measure it.

    The runtime optimizes every model while it loads it, so answers do not come faster: what this
    saves is part of the loading, which the report shows. Bounds are as for slipway quantize.
    """
    inputs = inputs_of(graphs.read(model).graph)
    values = Values((1,), (0,), dict(dim), dict(ranges), edges=False)
    plan = Plan(
        (methods.OPTIMIZED,),
        methods.Wishes(level=level),
        Bounds(max_size=max_size, min_speed_up=min_speed_up, min_cosine=0.99999, min_top1=1.0),
        variants.to_compare(inputs, samples, labelled, values),
        None,
        batch_size,
        rounds,
        threads,
    )
    target = out or model.with_name(f"{model.stem}.optimized.onnx")
    return variants.tell(run(model, target, plan), target, report_file, html, as_json=as_json)

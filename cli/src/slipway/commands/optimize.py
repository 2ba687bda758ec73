"""``slipway optimize``: the graph as ONNX Runtime has it after its optimizations."""

from __future__ import annotations

from pathlib import Path

import click

from slipway.commands import variants
from slipway.commands.variants import Measuring
from slipway.model import graph as graphs
from slipway.options import FILE, WRITTEN
from slipway.variants import methods
from slipway.variants.verdict import Bounds


@click.command("optimize")
@click.argument("model", type=FILE)
@click.option("--out", type=WRITTEN, help="The file to write; default: MODEL.optimized.onnx.")
@click.option(
    "--level",
    type=click.Choice(["basic", "extended"]),
    default="extended",
    show_default=True,
    help="basic keeps to ONNX's operators; extended fuses them into ONNX Runtime's own.",
)
@variants.measured(max_size=1.05, min_speed_up=0.9)
def command(model: Path, out: Path | None, level: str, measuring: Measuring) -> int:
    """Write the graph as ONNX Runtime would optimize it, and measure it.

    The runtime optimizes every model while it loads it, so answers do not come faster: what this
    saves is part of the loading, which the report shows. Bounds are as for slipway quantize.
    """
    plan = measuring.plan(
        graphs.read(model),
        (methods.OPTIMIZED,),
        methods.Wishes(level=level),
        Bounds(min_cosine=0.99999, min_top1=1.0),
    )
    target = out or model.with_name(f"{model.stem}.optimized.onnx")
    return variants.make(model, target, plan, measuring)

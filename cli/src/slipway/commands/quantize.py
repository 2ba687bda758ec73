"""``slipway quantize``: INT8 and FP16 variants that hold their bounds."""

from __future__ import annotations

from pathlib import Path

import click

from slipway.commands import variants
from slipway.commands.variants import Measuring
from slipway.errors import InvalidArguments
from slipway.model import graph as graphs
from slipway.model.signature import inputs_with_typical
from slipway.model.tensor import Tensor
from slipway.options import FILE, WRITTEN
from slipway.validation.cases import Plan as Values
from slipway.variants import data, methods
from slipway.variants.data import Data
from slipway.variants.verdict import Bounds

_AUTO = "auto"
_CALIBRATION_BATCH = 8


@click.command("quantize")
@click.argument("model", type=FILE)
@click.option("--out", type=WRITTEN, help="The file to write; default: MODEL.METHOD.onnx.")
@click.option(
    "--method",
    "chosen",
    type=click.Choice([_AUTO, methods.DYNAMIC, methods.STATIC, methods.HALF]),
    multiple=True,
    default=[_AUTO],
    show_default=True,
    help="auto: int8-static for a model with convolutions, else int8-dynamic. Of several the"
    " fastest that holds is kept.",
)
@click.option("--calibration", type=FILE, help="Typical inputs for int8-static, as .npz.")
@click.option(
    "--random-calibration", is_flag=True, help="Calibrate on random inputs, to see speed and size."
)
@click.option(
    "--calibrate-by",
    type=click.Choice(["minmax", "entropy", "percentile"]),
    default="minmax",
    show_default=True,
    help="How int8-static chooses the range of a tensor.",
)
@click.option(
    "--reduce-range", is_flag=True, help="7-bit weights, for x86 processors without VNNI."
)
@click.option("--exclude", multiple=True, metavar="NODE", help="A node that stays as it is.")
@click.option("--min-top1", type=float, default=0.99, show_default=True, help="Same classes, or …")
@click.option("--min-cosine", type=float, default=0.999, show_default=True, help="… this close.")
@click.option(
    "--max-accuracy-loss", type=float, default=0.01, show_default=True, help="On --labelled."
)
@variants.measured(max_size=1.0, min_speed_up=1.0)
def command(
    model: Path,
    out: Path | None,
    chosen: tuple[str, ...],
    calibration: Path | None,
    random_calibration: bool,
    calibrate_by: str,
    reduce_range: bool,
    exclude: tuple[str, ...],
    min_top1: float,
    min_cosine: float,
    max_accuracy_loss: float,
    measuring: Measuring,
) -> int:
    """Make an INT8 or FP16 variant, and keep it when it holds its bounds.

    Both models run side by side. The variant is kept when it is smaller, not slower here (by the
    lower end of the 95 % interval of the paired rounds), and each output agrees: the same class in
    99 % of rows, or a mean cosine of 0.999. Else the exit code is 12 and no file is written.

    int8-dynamic converts MatMul, Gemm and embeddings; int8-static (QDQ, by channel) convolutions
    too, and needs --calibration. FP16 is for GPUs: on a CPU it is mostly slower.
    """
    proto = graphs.read(model)
    ways = tuple(dict.fromkeys(methods.for_model(proto) if w == _AUTO else w for w in chosen))
    nodes = {node.name for node in graphs.nodes(proto.graph)}
    if unknown := [name for name in exclude if name not in nodes]:
        raise InvalidArguments(f"the model has no node {unknown[0]!r}", "names are those of Netron")
    calibrated = None
    if methods.STATIC in ways:
        calibrated = _calibration(
            inputs_with_typical(proto), calibration, measuring.values, random=random_calibration
        )
    wishes = methods.Wishes(
        calibrated.batches if calibrated else (), calibrate_by, reduce_range, exclude
    )
    bounds = Bounds(min_top1=min_top1, min_cosine=min_cosine, max_accuracy_loss=max_accuracy_loss)
    target = out or model.with_name(f"{model.stem}.{ways[0] if len(ways) == 1 else 'small'}.onnx")
    plan = measuring.plan(proto, ways, wishes, bounds, calibrated)
    return variants.make(model, target, plan, measuring)


def _calibration(
    inputs: tuple[Tensor, ...], path: Path | None, values: Values, *, random: bool
) -> Data | None:
    if path is not None:
        return data.given(path, inputs, _CALIBRATION_BATCH)
    return data.made(inputs, values, _CALIBRATION_BATCH) if random else None

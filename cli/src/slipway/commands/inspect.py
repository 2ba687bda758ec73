"""``slipway inspect``: what is in an ONNX file."""

from __future__ import annotations

from pathlib import Path

import click

from slipway import terminal
from slipway.errors import InvalidModel
from slipway.model.facts import Facts, gather
from slipway.model.providers import Coverage, coverage
from slipway.model.tensor import Tensor
from slipway.options import FILE, json_option

_OPERATORS_SHOWN = 12


@click.command("inspect")
@click.argument("model", type=FILE)
@click.option(
    "--load/--no-load", default=True, help="Have ONNX Runtime load the model too (default)."
)
@json_option
def command(model: Path, load: bool, as_json: bool) -> int:
    """Tell what is in an ONNX file, and what would refuse it.

    That is its signature, opset, operators and size, whether requests can be batched, and why not,
    and which nodes the providers for CUDA, TensorRT and OpenVINO would leave to the CPU.

    The exit code is 3 when ONNX Runtime or the serving runtime would refuse it.
    """
    facts = gather(model, load=load)
    found = coverage(model, ask=load and facts.servable)
    if as_json:
        told = {"providers": [item.as_json() for item in found]}
        terminal.print_json(facts.as_json() | told)
    else:
        _print(facts, found)
    return 0 if facts.servable else InvalidModel.exit_code


def _print(facts: Facts, found: list[Coverage]) -> None:
    batchable = "yes" if not facts.not_batchable else f"no: {'; '.join(facts.not_batchable)}"
    terminal.print_facts(
        [
            ("file", str(facts.path)),
            ("digest", facts.digest),
            ("size", f"{terminal.size(facts.size)}, {facts.parameters:,} parameters"),
            *(
                (("external data", ", ".join(facts.external_files)),)
                if facts.external_files
                else ()
            ),
            ("opset", ", ".join(f"{domain} {version}" for domain, version in facts.opsets.items())),
            ("IR version", str(facts.ir_version)),
            ("made by", facts.producer or "unknown"),
            ("operators", _operators(facts)),
            ("batchable", batchable),
            *((f"  {key}", value) for key, value in facts.metadata.items()),
        ]
    )
    terminal.print_table(
        ("", "name", "datatype", "shape"),
        [*_rows("input", facts.inputs), *_rows("output", facts.outputs)],
    )
    terminal.print_table(
        ("provider", "takes", "left to the CPU", "known from"),
        [
            (
                item.provider.removesuffix("ExecutionProvider"),
                f"{item.nodes - item.left} of {item.nodes} nodes",
                _listed(item) or "nothing",
                item.source,
            )
            for item in found
        ],
    )
    if facts.findings:
        terminal.print_table(
            ("", "what", "remedy"),
            [(finding.level, finding.message, finding.remedy) for finding in facts.findings],
        )


def _operators(facts: Facts) -> str:
    shown = list(facts.operators.items())[:_OPERATORS_SHOWN]
    text = ", ".join(f"{name} {count}" for name, count in shown)
    more = len(facts.operators) - len(shown)
    return f"{text}, and {more} more" if more else text


def _listed(item: Coverage) -> str:
    return ", ".join(f"{operator} {len(names)}" for operator, names in item.fallback.items())


def _rows(kind: str, tensors: tuple[Tensor, ...]) -> list[tuple[str, str, str, str]]:
    return [(kind, tensor.name, tensor.datatype, tensor.shown_shape) for tensor in tensors]

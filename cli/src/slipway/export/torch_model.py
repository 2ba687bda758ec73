"""PyTorch: loading, both exporters, and the module itself as the reference.

The only place that touches torch, which is imported by name: it need not be installed.
"""

from __future__ import annotations

import ctypes
import importlib
import inspect
import io
import logging
import os
import sys
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, cast

import numpy as np

from slipway import files
from slipway.errors import InvalidArguments
from slipway.export import bounded_sizes, source
from slipway.export.attempt import Attempt, Exportable
from slipway.export.source import Kind
from slipway.model.signature import Array
from slipway.model.tensor import Tensor


def load(where: str, kind: Kind, state: Path | None, *, trust_pickle: bool) -> Any:
    """Return the module, in evaluation mode.

    Raises:
        UntrustedPickle: reading it would run code.
        InvalidArguments: it is no module, or the state does not fit.
    """
    torch = _torch()
    if kind is Kind.TORCHSCRIPT:
        module = torch.jit.load(where, map_location="cpu")
    elif kind is Kind.TORCH_PICKLE:
        if state is not None:
            raise InvalidArguments("--state-dict goes with module:Class")
        source.require_trust(where, trust_pickle)
        try:
            module = torch.load(where, map_location="cpu", weights_only=False)
        except Exception as error:  # noqa: BLE001 - unpickling raises everything there is
            raise source.unreadable_pickle(where, error) from None
        if isinstance(module, dict) and "state_dict" in module:
            raise InvalidArguments(
                f"{where} is a checkpoint: its weights are below 'state_dict'",
                "write them alone: torch.save(checkpoint['state_dict'], FILE), then"
                " module:Class --state-dict FILE",
            )
        if isinstance(module, dict):
            raise InvalidArguments(
                f"{where} is a state_dict: weights without the module that they belong to",
                f"slipway export module:Class --state-dict {where}",
            )
    else:
        module = source.attribute(where)
        if not isinstance(module, torch.nn.Module) and callable(module):
            module = _made(where, module)
    if not isinstance(module, torch.nn.Module):
        raise InvalidArguments(
            f"{where} is neither a torch.nn.Module nor a fitted scikit-learn estimator, but"
            f" {type(module).__name__}",
            "XGBoost and LightGBM go by their scikit-learn classes, fitted",
        )
    if state is not None:
        _load_state(torch, module, state)
    return module.eval()


def exportable(
    module: Any,
    inputs: Sequence[Tensor],
    example: Mapping[str, Array],
    outputs: Sequence[str],
    *,
    exporter: str,
    opset: int,
) -> Exportable:
    """Prepare the exporters in the order in which they are tried.

    ``example`` holds an array for each input; where an input's dimension is symbolic, the graph
    keeps it so. ``outputs`` may name the outputs.

    Raises:
        InvalidArguments: the module fails on the example.
    """
    torch = _torch()
    names = _output_names(torch, module, inputs, example, outputs)
    scripted = isinstance(module, torch.jit.ScriptModule)
    arguments = tuple(torch.from_numpy(example[tensor.name].copy()) for tensor in inputs)
    common: dict[str, Any] = {
        "input_names": [tensor.name for tensor in inputs],
        "output_names": names,
        "opset_version": opset,
    }

    def modern(path: Path) -> Sequence[str]:
        sizes: dict[str, Any] = {}
        shapes = tuple(
            {
                axis: sizes.setdefault(name, torch.export.Dim(name))
                for axis, name in enumerate(tensor.shape or ())
                if isinstance(name, str)
            }
            for tensor in inputs
        )
        program, told = _quietly(
            lambda: torch.onnx.export(
                module, arguments, str(path), dynamo=True, dynamic_shapes=_by_parameter(
                    module, shapes
                ), external_data=_is_large(module), verbose=False, **common,
            )
        )  # fmt: skip
        return [*told, *bounded_sizes.frozen(program, path, inputs, example, reference)]

    def classic(path: Path) -> Sequence[str]:
        axes = {
            tensor.name: {
                axis: name for axis, name in enumerate(tensor.shape or ()) if isinstance(name, str)
            }
            for tensor in inputs
        }
        first = next((t.shape[0] for t in inputs if t.shape and isinstance(t.shape[0], str)), None)
        if first is not None:
            axes |= {name: {0: first} for name in names}
        _, told = _quietly(
            lambda: torch.onnx.export(
                module, arguments, str(path), dynamo=False, dynamic_axes=axes, **common
            )
        )
        return told

    def reference(feeds: Mapping[str, Array]) -> dict[str, Array]:
        return _run(torch, module, inputs, feeds, names)

    ways = {"dynamo": Attempt("dynamo", modern), "classic": Attempt("classic", classic)}
    order = ["classic"] if scripted else ["dynamo", "classic"]
    if exporter != "auto":
        order = [exporter]
    return Exportable(
        "torch",
        inputs,
        [ways[name] for name in order],
        reference,
        {"torch": str(torch.__version__)},
    )


def _made(where: str, make: Any) -> Any:
    try:
        return make()
    except Exception as error:  # noqa: BLE001 - it is the user's
        raise InvalidArguments(
            f"{where}() fails: {type(error).__name__}: {_line(error)}",
            "name one that is made already, in a module of yours: model = Net(...)",
        ) from None


def _torch() -> Any:
    try:
        return importlib.import_module("torch")
    except ModuleNotFoundError:
        raise source.missing("torch") from None


def _load_state(torch: Any, module: Any, path: Path) -> None:
    files.require_file(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - torch raises pickle's errors, and its own
        raise InvalidArguments(
            f"{path} is no state_dict that can be read as weights only: {_line(error)}",
            "save it with torch.save(module.state_dict(), FILE)",
        ) from None
    try:
        module.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise InvalidArguments(
            f"{path} does not fit the module: {' '.join(str(error).split())[:300]}",
            "check that it is of the same class, made with the same sizes",
        ) from None


def _output_names(
    torch: Any,
    module: Any,
    inputs: Sequence[Tensor],
    example: Mapping[str, Array],
    wanted: Sequence[str],
) -> list[str]:
    try:
        found = _call(torch, module, inputs, example)
    except Exception as error:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in example.items())
        raise InvalidArguments(
            f"the module itself fails on {shapes}: {_line(error)}",
            "say what it takes: --input NAME=FP32[batch,4], in the order of forward()",
        ) from error
    if wanted and len(wanted) != len(found):
        raise InvalidArguments(f"{len(wanted)} names are given for {len(found)} outputs")
    return list(wanted) or list(found)


def _run(
    torch: Any,
    module: Any,
    inputs: Sequence[Tensor],
    feeds: Mapping[str, Array],
    names: Sequence[str],
) -> dict[str, Array]:
    values = _call(torch, module, inputs, feeds).values()
    return dict(zip(names, values, strict=True))


def _call(
    torch: Any, module: Any, inputs: Sequence[Tensor], feeds: Mapping[str, Array]
) -> dict[str, Array]:
    """Run the module and return its outputs, flattened, by names of their own."""
    with torch.no_grad():
        result = module(*(torch.from_numpy(feeds[tensor.name].copy()) for tensor in inputs))
    if isinstance(result, Mapping):
        named = {str(k): v for k, v in cast("Mapping[Any, Any]", result).items() if v is not None}
    elif isinstance(result, (list, tuple)):
        values = cast("Sequence[Any]", result)
        # A named tuple has names for them.
        names = getattr(values, "_fields", [f"output_{index}" for index in range(len(values))])
        named = dict(zip(names, values, strict=True))
    else:
        named = {"output": result}
    for name, value in named.items():
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"output {name!r} is {type(value).__name__}, a tensor is wanted")
    return {name: np.asarray(value.detach().cpu().numpy()) for name, value in named.items()}


def _by_parameter(module: Any, shapes: tuple[Any, ...]) -> Any:
    """Return the shapes as torch.export wants them: one for each parameter of forward()."""
    parameters = list(inspect.signature(module.forward).parameters.values())
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return (shapes,)
    return shapes


def _is_large(module: Any) -> bool:
    size = sum(p.numel() * p.element_size() for p in module.parameters())
    return size > 1_500_000_000  # noqa: PLR2004 - protobuf ends at 2 GB


def _quietly(export: Any) -> tuple[Any, list[str]]:
    """Run an exporter without its chatter; return its result, and what it says it has frozen."""
    logger = logging.getLogger("torch")
    level = logger.level
    with (
        _dropped_native_stdout(),
        warnings.catch_warnings(record=True) as told,
        redirect_stdout(io.StringIO()),
        redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("always")
        logger.setLevel(logging.CRITICAL)
        try:
            result = export()
        finally:
            logger.setLevel(level)
    frozen = [item.message for item in told if "TracerWarning" in item.category.__name__]
    return result, [_line(message) for message in frozen]


@contextmanager
def _dropped_native_stdout() -> Generator[None]:
    """Drop what C++ prints to stdout: the classic exporter its whole graph when it fails."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    try:
        yield
    finally:
        ctypes.CDLL(None).fflush(None)
        os.dup2(kept, 1)
        os.close(kept)


def _line(error: object) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__

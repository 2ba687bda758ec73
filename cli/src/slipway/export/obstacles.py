"""Known reasons why exporters fail, or succeed wrongly, with the remedy. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Obstacle:
    """Something that exporters are known to stumble over."""

    name: str
    remedy: str


_KNOWN = (
    (
        r"GuardOnDataDependentSymNode|data-dependent|Python boolean might|Dynamic control flow",
        Obstacle(
            "the computation branches on a tensor's value (an `if`, a loop or .item())",
            "write it with torch.where or torch.cond, or move the decision out of the model",
        ),
    ),
    (
        r"Python (integer|float|number|index) might|Converting a tensor to a NumPy array",
        Obstacle(
            "a tensor becomes a plain number (.item(), int(), .numpy()), which is then frozen",
            "keep it a tensor; take sizes from .shape",
        ),
    ),
    (
        r"Constraints violated|was inferred to be a constant|marked .* as dynamic but|specializ",
        Obstacle(
            "a dimension that is to vary has become a constant in the model",
            "use -1 or .shape in reshape and view, or say that it is fixed: --input x=FP32[8,4]",
        ),
    ),
    (
        r"No ONNX function found|UnsupportedOperator|No decompositions|not supported in opset",
        Obstacle(
            "an operator has no counterpart in ONNX (a custom kernel, or one that is too new)",
            "express it with PyTorch's own operators, or try a newer --opset",
        ),
    ),
    (
        r"upsample|interpolate|recompute_scale_factor",
        Obstacle(
            "an interpolation computes its scale from sizes",
            "give interpolate a scale_factor, or a size that is fixed",
        ),
    ),
    (
        r"Duplicate definition|duplicate-output|outputs are called",
        Obstacle(
            "the same tensor is returned twice, and both outputs get one name",
            "return it once, or a copy of it: x.clone()",
        ),
    ),
    (
        r"Unable to find column name|string columns|could not convert string|invalid literal for",
        Obstacle(
            "the pipeline takes text or columns by name, and the file one matrix of numbers",
            "choose the columns by name in a ColumnTransformer at the head of the pipeline: each is"
            " an input of its own then; or fit it on a matrix of numbers",
        ),
    ),
    (
        r"at most 1 input\(s\) is\(are\) supported",
        Obstacle(
            "what is around the pipeline takes one matrix, and not columns",
            "put it into the pipeline, behind the ColumnTransformer",
        ),
    ),
    (
        r"Unknown Category and zeros",
        Obstacle(
            "the original takes categories that it was not fitted to, and the file fails on them",
            'OneHotEncoder(handle_unknown="ignore"), of which the file does the same; or compare on'
            " known ones alone: --no-random with --samples",
        ),
    ),
    (
        r"ScriptModule|torch\.jit",
        Obstacle(
            "the modern exporter takes no TorchScript", "use --exporter classic, or the module"
        ),
    ),
)


def recognise(text: str) -> Obstacle | None:
    """Return the obstacle that an exporter's words speak of, if it is a known one."""
    return next((known for pattern, known in _KNOWN if re.search(pattern, text)), None)


def summary(error: BaseException) -> str:
    """Return the sentence of an exporter's long text that says what is wrong."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    _, mark, rest = text.partition("## Exception summary")
    lines = [line.strip() for line in (rest if mark else text).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:400]

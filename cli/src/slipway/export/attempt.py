"""What a framework's loader hands over: ways to write the model, and what it computes itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from slipway.model.names import Names
from slipway.model.tensor import Tensor
from slipway.validation.cases import Bounds
from slipway.validation.check import Reference
from slipway.validation.ties import Choice


@dataclass(frozen=True)
class Attempt:
    """One exporter. ``write`` writes the file and returns warnings about what it has frozen."""

    name: str
    write: Callable[[Path], Sequence[str]]


@dataclass(frozen=True)
class Exportable:
    """A loaded model; ``reference`` is what it computes, arrays by output name.

    ``columns`` and ``labels`` are names of the last dimension of inputs and outputs, if known;
    ``choices`` are outputs that name a class, with the output by which they choose it;
    ``ranges`` are where the numbers lay that it was fitted to, by input, if known;
    ``remedy`` says what to do when every attempt computes something else, ``warnings`` what every
    file lacks of the original.
    """

    framework: str
    inputs: Sequence[Tensor]
    attempts: Sequence[Attempt]
    reference: Reference
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    columns: Names = field(default_factory=dict[str, Sequence[str]])
    labels: Names = field(default_factory=dict[str, Sequence[str]])
    ranges: Mapping[str, Bounds] = field(default_factory=dict[str, Bounds])
    choices: Mapping[str, Choice] = field(default_factory=dict[str, Choice])
    remedy: str = ""
    warnings: Sequence[str] = ()

"""A picture as the input of a model: its layout, size and channels are those of the input's shape.

Reading the file is at the end, the rest is pure.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slipway import files
from slipway.errors import InvalidArguments, MissingExtra
from slipway.model.signature import DTYPES, Array
from slipway.model.tensor import Tensor

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
LAYOUTS = ("nchw", "nhwc")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_RANK = 4
_FULL = 255


@dataclass(frozen=True)
class Wishes:
    """What the shape does not tell.

    ``layout`` is one of `LAYOUTS`, or empty for what the shape says. Numbers are pixels from 0 to
    255 divided by ``scale``, less ``mean``, divided by ``std``, these two for each channel; for an
    input of whole numbers they stay as they are.
    """

    layout: str = ""
    scale: float = _FULL
    mean: Sequence[float] = ()
    std: Sequence[float] = ()


@dataclass(frozen=True)
class Form:
    """How an input takes pictures; height and width in pixels, None where any will do."""

    layout: str
    channels: int
    height: int | None
    width: int | None


def form_of(tensor: Tensor, layout: str = "") -> Form:
    """Read an input's shape: [batch, channels, height, width] or [batch, height, width, channels].

    Raises:
        InvalidArguments: it is neither, or may be both and ``layout`` does not say which.
    """
    label = f"input {tensor.name!r} {tensor.shown_shape}"
    if tensor.shape is None or len(tensor.shape) != _RANK or not _is_number(tensor):
        raise InvalidArguments(
            f"{label} of {tensor.datatype} takes no picture",
            "a picture is for an input of numbers in four dimensions; else send .npy or .npz",
        )
    _, second, third, fourth = (size if isinstance(size, int) else None for size in tensor.shape)
    fitting = [name for name, size in zip(LAYOUTS, (second, fourth), strict=True) if size in _MODES]
    chosen = layout or (fitting[0] if len(fitting) == 1 else "")
    if not chosen:
        raise InvalidArguments(
            f"from {label} it is not clear which dimension counts the channels",
            "say --layout nchw or --layout nhwc",
        )
    channels = second if chosen == "nchw" else fourth
    if channels is not None and channels not in _MODES:
        raise InvalidArguments(
            f"{label} has {channels} channels as {chosen}; a picture has 1, 3 or 4",
            "--layout says which dimension counts them",
        )
    height, width = (third, fourth) if chosen == "nchw" else (second, third)
    return Form(chosen, channels or 3, height, width)


def as_input(pixels: Array, tensor: Tensor, form: Form, wishes: Wishes) -> Array:
    """Turn pixels [height, width, channels] of UINT8 into the input's array, a batch of one.

    Raises:
        InvalidArguments: mean or std are not one for each channel, or std is 0.
    """
    dtype = DTYPES[tensor.datatype]
    if dtype.kind == "f":
        values = pixels.astype(np.float64) / wishes.scale
        values -= _by_channel(wishes.mean, form.channels, "mean", 0)
        values /= _by_channel(wishes.std, form.channels, "std", 1)
    else:
        values = pixels
    if form.layout == "nchw":
        values = values.transpose(2, 0, 1)
    return np.ascontiguousarray(values[np.newaxis]).astype(dtype)


def read(path: Path, form: Form) -> Array:
    """Read a file as pixels [height, width, channels] of UINT8, turned upright and resized.

    Raises:
        NotFound, AccessDenied, InvalidArguments: it cannot be read, or is no picture.
        MissingExtra: Pillow is not installed.
    """
    try:
        library: Any = importlib.import_module("PIL.Image")
        operations: Any = importlib.import_module("PIL.ImageOps")
    except ModuleNotFoundError:
        raise MissingExtra(
            "Pillow is not installed here, and it reads pictures", "pip install 'slipway[image]'"
        ) from None
    files.require_file(path)
    try:
        with library.open(path) as opened:
            picture = operations.exif_transpose(opened).convert(_MODES[form.channels])
    except (OSError, ValueError, SyntaxError, library.DecompressionBombError) as error:
        raise InvalidArguments(f"{path} is no picture that can be read: {error}") from None
    size = form.width or picture.width, form.height or picture.height
    if size != picture.size:
        picture = picture.resize(size, library.Resampling.BILINEAR)
    return np.asarray(picture).reshape(size[1], size[0], form.channels)


def _is_number(tensor: Tensor) -> bool:
    return tensor.served and DTYPES[tensor.datatype].kind in "fiu"


def _by_channel(values: Sequence[float], channels: int, name: str, without: float) -> Array:
    if not values:
        return np.full(channels, without)
    if len(values) not in (1, channels) or (name == "std" and 0 in values):
        raise InvalidArguments(
            f"--{name} {','.join(map(str, values))} does not fit {channels} channels",
            f"one number, or {channels} separated by commas; std is not 0",
        )
    return np.broadcast_to(np.asarray(values, np.float64), (channels,))

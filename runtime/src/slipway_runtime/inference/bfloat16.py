"""bfloat16 as its bits, the upper half of a float32, in uint16: NumPy has no such type."""

from __future__ import annotations

import numpy as np

from slipway_runtime.inference.tensors import Array


def widen(bits: Array) -> Array:
    """Return the float32 values of uint16 bits, of the same shape; exact."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def narrow(values: Array) -> Array:
    """Return the uint16 bits nearest to float64 values, ties to even; too large is infinite."""
    with np.errstate(over="ignore"):
        single = np.asarray(values, dtype=np.float32)
    # Rounding twice would round some values wrongly. So the first time is towards zero, with the
    # last bit set where something was cut off: no tie of the second rounding remains.
    toward_zero = np.where(
        np.abs(single) > np.abs(values), np.nextafter(single, np.float32(0)), single
    )
    inexact = (toward_zero != values).astype(np.uint32)
    bits = toward_zero.view(np.uint32) | inexact
    tie = (bits >> np.uint32(16)) & np.uint32(1)
    return ((bits + np.uint32(0x7FFF) + tie) >> np.uint32(16)).astype(np.uint16)

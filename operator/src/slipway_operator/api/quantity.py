"""Kubernetes quantities: 1000m is 1, 1Ki is 1024."""

from decimal import ROUND_UP, Decimal

_FINEST = Decimal("0.000000001")
_COARSE = Decimal(10**15)
_SUFFIXES = {
    "n": Decimal("0.000000001"),
    "u": Decimal("0.000001"),
    "m": Decimal("0.001"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}


def quantity(value: int | str) -> Decimal:
    """The number that a Kubernetes quantity stands for: 1000m is 1.

    Nothing is finer than a nano: the API server rounds up to it.
    """
    text = str(value)
    number = Decimal(text.rstrip("numkKMGTPEi"))
    suffix = text.lstrip("+-.0123456789")
    number *= _SUFFIXES.get(suffix, Decimal(1))
    return number.quantize(_FINEST, rounding=ROUND_UP) if abs(number) < _COARSE else number

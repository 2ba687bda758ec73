"""How many connections a transfer is worth."""

from __future__ import annotations

from typing import Final

# About half of what one core hashes, in bytes a second. No object store gives one connection that
# much; where it comes, the link or this machine is the limit.
_FAST: Final = 512 << 20


def connections_for(rate: float, hashers: int, most: int) -> int:
    """Return how many connections to have, from 1 to ``most``, when one brings ``rate``.

    ``rate`` is in bytes a second, ``hashers`` is how many cores hash what comes. Object stores
    bound the rate of a connection, so there it takes all; beside a fast link each further one
    costs processor and brings nothing.
    """
    return max(1, min(hashers, most) if rate >= _FAST else most)

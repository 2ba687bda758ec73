"""How many connections a transfer is worth, found by trying more of them."""

from __future__ import annotations

from typing import Final

# About half of what one core hashes, in bytes a second: more connections would bring little.
_FAST: Final = 512 << 20
# What twice the connections must bring to be worth their processor time.
_GAIN: Final = 1.3
# How often in a row it must fail to pay: a measurement is short, and new connections start slowly.
_LOOKS: Final = 6


class Pace:
    """Begins with one connection, and doubles them, up to ``most``, for as long as that pays.

    Object stores bound the rate of a connection, so there it comes to all of them within some
    looks. Where the link or this machine is the limit a further one costs processor and brings
    nothing. ``hashers`` is how many cores hash what comes.
    """

    def __init__(self, hashers: int, most: int) -> None:
        self._hashers = hashers
        self._most = most
        self._rate = 0.0
        self._in_vain = 0
        self.connections = 1
        self.settled = most <= 1

    def judge(self, rate: float) -> int:
        """Take in the rate of all connections in bytes a second; return how many to have."""
        if rate >= _FAST:
            self.connections = max(self.connections, min(self._hashers, self._most))
            self.settled = True
        elif rate >= self._rate * _GAIN:
            self._rate, self._in_vain = rate, 0
            self.connections = min(2 * self.connections, self._most)
            self.settled = self.connections == self._most
        else:
            self._in_vain += 1
            self.settled = self._in_vain == _LOOKS
        return self.connections

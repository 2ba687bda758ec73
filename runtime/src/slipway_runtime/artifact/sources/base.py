"""What a source must do, and what it writes to."""

from __future__ import annotations

from typing import Protocol, Self

from slipway_runtime.errors import SlipwayError


class TransientError(SlipwayError):
    """The source failed in a way that may heal by itself: worth another attempt."""


class Sink(Protocol):
    """Takes the bytes of one artifact in order."""

    def expect(self, total: int) -> None:
        """Hear how many bytes will come, as soon as the source says so.

        Raises:
            TooLarge: that is more than the limit or than the volume has free.
        """
        ...

    def write(self, data: bytes) -> int:
        """Take the next bytes and return their count.

        Raises:
            TooLarge: with them it is more than the limit, or the volume is full.
        """
        ...


class Source(Protocol):
    """One artifact at one place."""

    @property
    def description(self) -> str:
        """Where the artifact is, for messages and logs: holds no credential and no query."""
        ...

    def beside(self, path: str) -> Self:
        """Return the source of another file of the same package; ``path`` has no dots."""
        ...

    def download(self, sink: Sink, seconds_left: float) -> None:
        """Write the whole artifact to the sink, once.

        ``seconds_left`` bounds each single wait on the source, not the transfer as a whole.

        Raises:
            TransientError: worth another attempt, with a new sink.
            Failure: another attempt would end the same way.
        """
        ...

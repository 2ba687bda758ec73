"""What a source must do: answer requests for a range of one object's bytes."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Protocol, Self

from slipway_runtime.errors import SlipwayError

_MAX_DIGITS = 18


class TransientError(SlipwayError):
    """The source failed in a way that may be temporary: worth another attempt.

    ``pause`` is for how many seconds the source asks to be left alone, 0 where it does not ask.
    """

    def __init__(self, message: str, pause: float = 0.0) -> None:
        super().__init__(message)
        self.pause = pause


class ReplacedError(TransientError):
    """The object is no longer the one that the transfer began with: start over."""


@dataclass(frozen=True)
class Range:
    """Bytes from ``start`` up to ``end``, which is not among them; sizes in bytes.

    ``validator`` is the entity tag that earlier answers had: the bytes must be of that object.
    """

    start: int
    end: int
    validator: str | None = None

    @property
    def header(self) -> str:
        """The value of an HTTP Range header."""
        return f"bytes={self.start}-{self.end - 1}"


class Answer(Protocol):
    """The answer to one range request.

    ``total`` is the size of the whole object, None where the source does not say. ``validator`` is
    a strong entity tag, None where there is none. ``ranged`` is False where the source gives the
    whole object whatever it was asked for.
    """

    @property
    def total(self) -> int | None:
        """The size of the object."""
        ...

    @property
    def validator(self) -> str | None:
        """The entity tag."""
        ...

    @property
    def ranged(self) -> bool:
        """Whether the bytes are those of the range."""
        ...

    def readinto(self, view: memoryview) -> int:
        """Put the next bytes into ``view``; return how many, 0 at the end.

        Raises:
            TransientError: the connection was cut, or nothing came in time.
        """
        ...


class Source(Protocol):
    """One object at one place. May be used by several threads at once."""

    @property
    def description(self) -> str:
        """Where the object is, for messages and logs: holds no credential and no query."""
        ...

    def beside(self, path: str) -> Self:
        """Return the source of another file of the same package; ``path`` has no dots."""
        ...

    def open(self, wanted: Range, seconds_left: float) -> AbstractContextManager[Answer]:
        """Ask for a range. ``seconds_left`` bounds each single wait on the source.

        Raises:
            ReplacedError: the object has another entity tag by now.
            TransientError: worth another attempt.
            Failure: another attempt would end the same way.
        """
        ...


def total_of(content_range: str, wanted: Range, where: str) -> int:
    """Return the object's size from a Content-Range header, which must begin as asked.

    Raises:
        TransientError: it is malformed, or of another range.
    """
    unit, _, rest = content_range.partition(" ")
    span, _, total = rest.partition("/")
    start, _, _ = span.partition("-")
    if total == "*":
        raise TransientError(
            f"{where} answers ranges without telling the object's whole size, which is needed"
        )
    if (
        unit != "bytes"
        or start != str(wanted.start)
        or not total.isdecimal()
        or len(total) > _MAX_DIGITS
    ):
        raise TransientError(
            f"{where} was asked for {wanted.header} and answered {content_range[:60]!r}"
        )
    return int(total)


def pause_of(retry_after: str | None) -> float:
    """Return the seconds of a Retry-After header, a number or a date; 0 for any other value."""
    value = (retry_after or "").strip()
    if value.isdecimal() and len(value) <= _MAX_DIGITS:
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def strong(entity_tag: str | None) -> str | None:
    """Return an entity tag unless it is a weak one, by which bytes may differ."""
    return entity_tag if entity_tag and not entity_tag.startswith("W/") else None

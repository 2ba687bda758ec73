"""Marks a part of a child as ours alone."""

from typing import Any


class Whole(dict[str, Any]):
    """A map in a list that is applied as one: what it does not hold must not be there either.

    Of any other map only the fields that it holds are compared with the live object, since the API
    server adds defaults and others add fields of their own.
    """

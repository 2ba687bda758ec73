"""What a reconcile is about, for every line that is logged while it runs."""

from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType

_NOTHING: Mapping[str, str] = MappingProxyType({})
_about: ContextVar[Mapping[str, str]] = ContextVar("about", default=_NOTHING)


def begin(namespace: str, name: str) -> None:
    """From now on this task works on that ModelDeployment."""
    _about.set({"model": f"{namespace}/{name}"})


def add(**fields: str) -> None:
    """More is known of it: revision and digest."""
    _about.set({**_about.get(), **fields})


def fields() -> Mapping[str, str]:
    """The present task's fields; none outside of a reconcile."""
    return _about.get()

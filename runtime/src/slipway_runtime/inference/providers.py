"""Which execution providers a model runs on: all that are required, and those preferred ones that
can be had.

A preferred provider that cannot be had is passed over. The log and `/health` tell it with the
reason, and the metrics do: a fallback is never silent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from slipway_runtime.errors import ProviderUnavailable

_LEFT_OUT: Final = (
    "ONNX Runtime left it out: its library or device cannot be used, for which ONNX Runtime's own"
    " line in the log has the reason"
)

logger = logging.getLogger(__name__)


class HasProviders(Protocol):
    """What is used of a session."""

    def get_providers(self) -> list[str]:
        """Return the providers that the session really has."""
        ...


Session = TypeVar("Session", bound=HasProviders)


@dataclass(frozen=True)
class Providers:
    """``required`` ones must be in a session, ``preferred`` ones come before them where they can.

    ``available`` are those that this build of ONNX Runtime knows.
    """

    required: Sequence[str]
    preferred: Sequence[str]
    available: Sequence[str]

    @property
    def candidates(self) -> list[str]:
        """The preferred providers that can be tried, in order."""
        return [name for name in self.preferred if name in self.available]

    def open(self, open_with: Callable[[Sequence[str]], Session]) -> tuple[Session, dict[str, str]]:
        """Open a session with as many of the preferred providers as can be had.

        ``open_with`` opens one with these preferred providers, in order, and all required ones.

        Returns the session, and for each preferred provider that it lacks the reason.

        Raises:
            Failure: what ``open_with`` raises, if it is not for want of a preferred provider.
        """
        candidates = self.candidates
        offered = f"this image offers only {', '.join(self.available)}"
        passed_over = {name: offered for name in self.preferred if name not in candidates}
        while True:
            try:
                session = open_with(candidates)
                break
            except ProviderUnavailable as error:
                if not candidates:
                    raise
                # A provider that fails may name the one below it, as TensorRT does with CUDA.
                name = error.provider if error.provider in candidates else candidates[0]
                candidates = [other for other in candidates if other != name]
                passed_over[name] = error.message
        present = session.get_providers()
        for name in candidates:
            if name not in present:
                passed_over[name] = _LEFT_OUT
        for name, reason in passed_over.items():
            logger.warning("the preferred execution provider %s is passed over: %s", name, reason)
        return session, passed_over

"""Others at work where the operator is: who had a name first, and who wants a field otherwise."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, Self

from operator_kit.api import ApiError
from operator_kit.space import MODEL, Space

Json = dict[str, Any]

RIVAL = "the-rival"
"""The field manager of a Rival."""

FIELD = "minReadySeconds"
"""The field of the Deployment that it wants."""


def foreign_deployment() -> Json:
    """A Deployment of the model's name that belongs to nobody."""
    labels = {"app": "somebody-else"}
    return {
        "metadata": {"name": MODEL},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "web", "image": "web:1"}]},
            },
        },
    }


class Rival:
    """Sets one field of the Deployment whenever it is not as it wants, from enter to exit."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        space = self._space
        while not self._stop.wait(0.1):
            if space.deployment()["spec"].get(FIELD) == 3:
                continue
            patch: Json = {"spec": {FIELD: 3}}
            try:
                space.api.patch("deployments", space.namespace, MODEL, patch, manager=RIVAL)
            except ApiError as error:
                if error.status != 409:
                    raise

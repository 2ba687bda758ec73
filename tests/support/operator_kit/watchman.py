"""Watches that a model never has fewer pods to answer than it should."""

from __future__ import annotations

import threading

from operator_kit.api import ApiError, Unreachable
from operator_kit.space import MODEL, Space


class Watchman:
    """Looks again and again how many pods are available, and remembers the fewest."""

    def __init__(self, space: Space, name: str = MODEL) -> None:
        self._space = space
        self._name = name
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.fewest = 99
        self.looks = 0

    def __enter__(self) -> Watchman:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            try:
                found = self._space.api.get("deployments", self._space.namespace, self._name)
            except (ApiError, Unreachable):
                continue
            status = (found or {}).get("status", {})
            self.fewest = min(self.fewest, status.get("availableReplicas", 0))
            self.looks += 1

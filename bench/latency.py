"""How soon after a ModelDeployment is created its Deployment is seen: one by one, and in bursts."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from operator_kit.api import Unreachable
from operator_kit.space import Space

from slipway_dev.console import step

Json = dict[str, Any]

_WARM_UP = 5
_POSTERS = 8


class Watcher:
    """Notes when objects of one kind are first seen, or first seen as wanted."""

    def __init__(
        self, space: Space, resource: str, wanted: Callable[[Json], bool] = lambda _: True
    ) -> None:
        self._space = space
        self._resource = resource
        self._wanted = wanted
        self._seen: dict[str, float] = {}
        self._changed = threading.Condition()
        self._version = space.api.listing(resource, space.namespace, limit="1")["metadata"][
            "resourceVersion"
        ]
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        try:
            watch = self._space.api.watch(self._resource, self._space.namespace, self._version)
            for kind, obj in watch:
                if kind in ("ADDED", "MODIFIED") and self._wanted(obj):
                    with self._changed:
                        self._seen.setdefault(obj["metadata"]["name"], time.perf_counter())
                        self._changed.notify_all()
        except Unreachable:
            return

    def when(self, name: str, within: float = 30) -> float:
        """The moment at which it was seen; waits for it."""
        with self._changed:
            if not self._changed.wait_for(lambda: name in self._seen, timeout=within):
                raise TimeoutError(f"{self._resource} {name} was never seen as wanted")
            return self._seen[name]


def is_ready(model: Json) -> bool:
    """Whether its present generation is Ready."""
    status = model.get("status") or {}
    conditions = status.get("conditions") or []
    return status.get("observedGeneration") == model["metadata"]["generation"] and any(
        c["type"] == "Ready" and c["status"] == "True" for c in conditions
    )


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 90th percentile and spread, in milliseconds."""
    times = sorted(1000 * value for value in seconds)
    tenths = statistics.quantiles(times, n=10, method="inclusive")
    return {
        "count": len(times),
        "p50_ms": round(statistics.median(times), 1),
        "p90_ms": round(tenths[8], 1),
        "min_ms": round(times[0], 1),
        "max_ms": round(times[-1], 1),
        "stdev_ms": round(statistics.stdev(times), 1),
    }


def over_rounds(values: Iterable[float]) -> dict[str, float]:
    """Median and range of what several rounds gave."""
    found = sorted(values)
    return {
        "median": round(statistics.median(found), 2),
        "min": round(found[0], 2),
        "max": round(found[-1], 2),
        "rounds": len(found),
    }


def one_by_one(space: Space, prefix: str, creates: int) -> Json:
    """From before the POST until a watch shows the Deployment, and Ready."""
    deployments = Watcher(space, "deployments")
    models = Watcher(space, "modeldeployments", is_ready)
    posted, seen, ready = [], [], []
    with step(f"{creates} creates, one after the other") as detail:
        for number in range(_WARM_UP + creates):
            name = f"{prefix}-{number}"
            manifest = space.manifest(name, name)
            began = time.perf_counter()
            space.api.create("modeldeployments", manifest, space.namespace)
            returned = time.perf_counter() - began
            deployment = deployments.when(name) - began
            # The next begins when this one has come to rest.
            served = models.when(name) - began
            detail(f"{number}: {1000 * deployment:.0f} ms")
            if number >= _WARM_UP:
                posted.append(returned)
                seen.append(deployment)
                ready.append(served)
    return {
        "post_returned": summary(posted),
        "deployment_seen": summary(seen),
        "ready_seen": summary(ready),
    }


def burst(space: Space, prefix: str, creates: int) -> dict[str, float]:
    """So many at once: seconds from the first POST until all their Deployments are seen."""
    deployments = Watcher(space, "deployments")
    models = Watcher(space, "modeldeployments", is_ready)
    names = [f"{prefix}-{number}" for number in range(creates)]
    with step(f"{creates} creates at once") as detail:
        began = time.perf_counter()
        post_all(space, names)
        posted = time.perf_counter() - began
        seen = max(deployments.when(name, 120) for name in names) - began
        detail(f"Deployments after {seen:.1f} s")
        ready = max(models.when(name, 300) for name in names) - began
    return {"posted_s": posted, "deployments_s": seen, "ready_s": ready}


def post_all(space: Space, names: Sequence[str]) -> None:
    """POST a ModelDeployment of each name, several at a time."""

    def post(name: str) -> None:
        space.api.create("modeldeployments", space.manifest(name, name), space.namespace)

    with ThreadPoolExecutor(_POSTERS) as posters:
        for _ in posters.map(post, names):
            pass

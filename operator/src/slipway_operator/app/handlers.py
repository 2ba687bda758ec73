"""kopf's part: it watches, and each event only feeds the store and the queue."""

from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Any, cast

import kopf

from slipway_operator.api.model_deployment import Json
from slipway_operator.api.names import LABEL_MANAGED_BY, MANAGED_BY
from slipway_operator.app.login import login
from slipway_operator.app.queue import WorkQueue
from slipway_operator.reconcile.kinds import MODEL_DEPLOYMENT, WATCHED, Kind
from slipway_operator.reconcile.kube import PAGE
from slipway_operator.reconcile.store import Store

OWNED_SELECTOR = f"{LABEL_MANAGED_BY}={MANAGED_BY}"


def build_registry(
    store: Store, queue: WorkQueue, listed: Callable[[], None]
) -> kopf.OperatorRegistry:
    """Handlers for every watched kind.

    Only ``on.event`` is used: change handlers, timers and daemons would write annotations and
    finalizers to the objects.

    Args:
        listed: called for each object of the list that a watch begins with.
    """
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry, id="login")(login)
    for kind in WATCHED:
        _watch(registry, kind, store, queue, listed)
    return registry


def _watch(
    registry: kopf.OperatorRegistry,
    kind: Kind,
    store: Store,
    queue: WorkQueue,
    listed: Callable[[], None],
) -> None:
    async def on_event(event: Any, **_: Any) -> None:
        obj: Json = event["object"]
        if event["type"] is None:
            listed()
        take = store.remove if event["type"] == "DELETED" else store.put
        key = take(kind, obj)
        if key is not None:
            queue.add(key, urgent=kind is MODEL_DEPLOYMENT)

    kopf.on.event(kind.group, kind.version, kind.plural, id=kind.plural, registry=registry)(
        on_event
    )


class _NoDifferences(kopf.DiffBaseStorage):
    """kopf would copy each object twice for each event, to compute diffs for change handlers.

    There are none.
    """

    def build(self, **_: Any) -> kopf.BodyEssence:
        return cast("kopf.BodyEssence", {})

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: Any) -> None:
        return None


class _Endless:
    """Seconds between the attempts of a request, without end.

    After its last attempt kopf gives up everything. One namespace that is deleted, and with it our
    rights there, would end the watches of all others.
    """

    def __iter__(self) -> Iterator[float]:
        return chain((1, 1, 2, 3, 5), repeat(8))


def build_settings() -> kopf.OperatorSettings:
    """Watch only what is ours, write nothing of kopf's own, and never hang on a dead connection."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = _Endless()
    settings.watching.connect_timeout = 5
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.chunk_size = PAGE
    # For so long after an event kopf keeps a task with the whole object.
    settings.queueing.idle_timeout = 0.1
    settings.persistence.diffbase_storage = _NoDifferences()
    for kind in WATCHED:
        if kind.owned:
            settings.watching.label_selectors[kind.group, kind.version, kind.plural] = (
                OWNED_SELECTOR
            )
    return settings

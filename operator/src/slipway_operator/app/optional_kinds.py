"""Kinds that the cluster may lack: finds out which there are, and watches their objects.

kopf ends the whole process when a kind that it watches goes away, so these are watched here. A kind
is there when it can be listed. While it is not, its CustomResourceDefinition is watched, if the
operator may; an install for some namespaces looks again at every resync instead.
"""

import asyncio
import logging
from contextlib import aclosing
from enum import Enum
from http import HTTPStatus

from slipway_operator.api.model_deployment import Json
from slipway_operator.api.settings import Settings
from slipway_operator.app.handlers import OWNED_SELECTOR
from slipway_operator.app.queue import WorkQueue
from slipway_operator.app.resync import take_in
from slipway_operator.app.tasks import first_of
from slipway_operator.reconcile.kinds import CUSTOM_RESOURCE_DEFINITION, Kind
from slipway_operator.reconcile.kube import ApiError, KubeClient, TransportError
from slipway_operator.reconcile.shortfall import enabled_kinds
from slipway_operator.reconcile.store import Store

logger = logging.getLogger(__name__)

_FIRST_PAUSE = 0.2
_MOST_DOUBLINGS = 16
_AFTER_AN_ERROR = 5.0


class OptionalKinds:
    """Feeds the store and the queue, as kopf does for the kinds that every cluster has."""

    def __init__(
        self, kube: KubeClient, store: Store, queue: WorkQueue, settings: Settings
    ) -> None:
        self._kube = kube
        self._store = store
        self._queue = queue
        self._kinds = enabled_kinds(settings)
        self._namespaces: list[str | None] = [*settings.namespaces] or [None]
        self._period = settings.resync_seconds
        self._found: dict[Kind, dict[str | None, _Found]] = {}

    def served(self, namespace: str) -> frozenset[str]:
        """Names of the kinds that can be used now in a namespace."""
        return frozenset(
            kind.name
            for kind, found in self._found.items()
            if _Found.SERVED in (found.get(None), found.get(namespace))
        )

    async def once(self) -> None:
        """Find out which kinds there are, and list their objects.

        One of which the API server answers an error is left for later: models need none of them.

        Raises:
            TransportError: it could not be found out.
        """
        for kind in self._kinds:
            try:
                await self._list(kind)
            except ApiError as error:
                _warn(kind, error)

    async def run(self) -> None:
        """Follow every kind forever."""
        if not self._kinds:
            await asyncio.Event().wait()
        await first_of(*map(self._follow, self._kinds))

    async def _follow(self, kind: Kind) -> None:
        tries = 0
        while True:
            try:
                versions = await self._list(kind)
                if versions is None:
                    await self._until_there(kind, _FIRST_PAUSE * 2 ** min(tries, _MOST_DOUBLINGS))
                    tries += 1
                    continue
                tries = 0
                await first_of(
                    *(self._watch(kind, space, since) for space, since in versions.items())
                )
                await asyncio.sleep(_FIRST_PAUSE)
            except (ApiError, TransportError) as error:
                _warn(kind, error)
                await asyncio.sleep(min(_AFTER_AN_ERROR, self._period))

    async def _list(self, kind: Kind) -> dict[str | None, str] | None:
        """Take in all objects; the version of each list that could be had, None if there is none.

        Namespaces may differ in what rights the operator has there.
        """
        versions: dict[str | None, str] = {}
        found: dict[str | None, _Found] = {}
        for namespace in self._namespaces:
            try:
                versions[namespace] = await take_in(
                    self._kube, self._store, self._queue, kind, namespace
                )
                found[namespace] = _Found.SERVED
            except ApiError as error:
                if error.status == HTTPStatus.NOT_FOUND:
                    self._store.forget(kind)
                    self._note(kind, dict.fromkeys(self._namespaces, _Found.MISSING))
                    return None
                if error.status != HTTPStatus.FORBIDDEN:
                    raise
                found[namespace] = _Found.FORBIDDEN
        self._note(kind, found)
        return versions or None

    def _note(self, kind: Kind, found: "dict[str | None, _Found]") -> None:
        """A kind that comes or goes concerns every model: it may be what one asked for."""
        before = self._found.get(kind, {})
        if before == found:
            return
        self._found[kind] = found
        for namespace, what in found.items():
            if before.get(namespace) is not what:
                where = {} if namespace is None else {"where": namespace}
                told = {"kind": kind.name, "found": what.value, **where}
                logger.info("optional kind", extra=told)
        for key in self._store.models():
            self._queue.add(key)

    async def _watch(self, kind: Kind, namespace: str | None, version: str) -> None:
        selector = {"labelSelector": OWNED_SELECTOR}
        async for event, obj in self._kube.watch(kind, namespace, version, selector):
            take = self._store.remove if event == "DELETED" else self._store.put
            key = take(kind, obj)
            if key is not None:
                self._queue.add(key)

    async def _until_there(self, kind: Kind, pause: float) -> None:
        """Wait until it is worth checking again for a kind that was missing."""
        if self._namespaces != [None]:
            await asyncio.sleep(self._period)
            return
        name = f"{kind.plural}.{kind.group}"
        definition, version = await self._kube.named(CUSTOM_RESOURCE_DEFINITION, name)
        if definition is not None and _established("", definition):
            # It is about to be served; or never, with another version, or without rights.
            await asyncio.sleep(min(pause, self._period))
            return
        selector = {"fieldSelector": f"metadata.name={name}"}
        following = self._kube.watch(CUSTOM_RESOURCE_DEFINITION, None, version, selector)
        async with aclosing(following):
            async for event, seen in following:
                if _established(event, seen):
                    return


def _warn(kind: Kind, error: Exception) -> None:
    logger.warning("cannot follow a kind", extra={"kind": kind.name, "error": str(error)[:1024]})


class _Found(Enum):
    """The outcome of asking for a kind."""

    SERVED = "served"
    MISSING = "missing"
    FORBIDDEN = "forbidden"


def _established(event: str, definition: Json) -> bool:
    status: Json = definition.get("status") or {}
    conditions: list[Json] = status.get("conditions") or []
    return (
        event != "DELETED"
        and "deletionTimestamp" not in definition["metadata"]
        and any(c["type"] == "Established" and c["status"] == "True" for c in conditions)
    )

"""Lists what is owned and corrects the store: watches may miss that something vanished."""

import asyncio
import logging
import random
import zlib
from itertools import count

from slipway_operator.app.handlers import OWNED_SELECTOR
from slipway_operator.app.queue import WorkQueue
from slipway_operator.reconcile.kinds import WATCHED, Kind
from slipway_operator.reconcile.kube import ApiError, KubeClient, TransportError
from slipway_operator.reconcile.store import Key, Store

logger = logging.getLogger(__name__)

_JITTER = 0.2
_SHARES = 12


async def take_in(
    kube: KubeClient, store: Store, queue: WorkQueue, kind: Kind, namespace: str | None
) -> str:
    """List one kind, and queue what differs from what was known; the list's resourceVersion.

    Raises:
        ApiError, TransportError: the list could not be had.
    """
    selector = OWNED_SELECTOR if kind.owned else None
    present: set[str] = set()
    changed: set[Key] = set()
    version = "0"
    # Each page is gone before the next one comes: a thousand objects fill tens of megabytes.
    async for page, of_the_list in kube.pages(kind, namespace, selector):
        version = of_the_list
        for obj in page:
            present.add(obj["metadata"]["uid"])
            key = store.put(kind, obj)
            if key is not None:
                changed.add(key)
    for key in changed | store.drop_absent(kind, namespace, present, version):
        queue.add(key)
    return version


class Resync:
    """Brings the store up to date by listing, once and then every while."""

    def __init__(
        self, kube: KubeClient, store: Store, queue: WorkQueue, namespaces: list[str]
    ) -> None:
        self._kube = kube
        self._store = store
        self._queue = queue
        self._namespaces: list[str | None] = [*namespaces] or [None]

    async def once(self) -> None:
        """List every kind; queue what differs from what was known.

        Raises:
            ApiError, TransportError: the lists could not be had; the store keeps what it had.
        """
        for kind in WATCHED:
            for namespace in self._namespaces:
                await take_in(self._kube, self._store, self._queue, kind, namespace)

    async def run(self, period: float) -> None:
        """Repeat for ever: the level-triggered safety net.

        What the lists correct is queued by ``once``. Of the rest, which is as it was when it was
        last looked at, a share is queued each time, so that every key is looked at in the end.
        """
        for turn in count():
            await asyncio.sleep(period * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311
            try:
                await self.once()
            except (ApiError, TransportError) as error:
                logger.warning("resync failed", extra={"error": str(error)})
                continue
            for key in self._store.models():
                if zlib.crc32("/".join(key).encode()) % _SHARES == turn % _SHARES:
                    self._queue.add(key)

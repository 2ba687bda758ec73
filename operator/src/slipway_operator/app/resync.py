"""Lists what is owned and corrects the store: watches may miss that something vanished.

They do when the API server no longer has the events of a gap (410): kopf then lists again, which
shows what is there and not what is gone.

Once the store is filled, a list of metadata is enough to see that nothing is missing, and most of
the time nothing is: a whole object costs ten times as much to read.
"""

import asyncio
import contextlib
import logging
import random
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from itertools import count

from slipway_operator.app.handlers import OWNED_SELECTOR
from slipway_operator.app.memory import reclaim
from slipway_operator.app.queue import WorkQueue
from slipway_operator.reconcile.kinds import WATCHED, Kind
from slipway_operator.reconcile.kube import ApiError, KubeClient, TransportError
from slipway_operator.reconcile.store import Key, Store

logger = logging.getLogger(__name__)

_JITTER = 0.2
_SHARES = 12
_APART_SECONDS = 5.0
"""Objects listed so long after the last ones belong to another list."""
_TOGETHER_SECONDS = 1.0
"""Watches expire at about the same time: one resync serves all of them."""


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


async def _nothing_new(
    kube: KubeClient, store: Store, queue: WorkQueue, kind: Kind, namespace: str | None
) -> bool:
    """Whether the store has every object of a kind; what is gone is forgotten and queued."""
    present: set[str] = set()
    version = "0"
    selector = OWNED_SELECTOR if kind.owned else None
    async for page, of_the_list in kube.pages(kind, namespace, selector, only_metadata=True):
        version = of_the_list
        if any(store.lacks(kind, obj) for obj in page):
            return False
        present.update(obj["metadata"]["uid"] for obj in page)
    for key in store.drop_absent(kind, namespace, present, version):
        queue.add(key)
    return True


class Resync:
    """Brings the store up to date by listing, once and then periodically."""

    def __init__(
        self,
        kube: KubeClient,
        store: Store,
        queue: WorkQueue,
        namespaces: list[str],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._monotonic = monotonic
        self._listed_at = monotonic()
        self._missed = asyncio.Event()
        self._kube = kube
        self._store = store
        self._queue = queue
        self._places: list[str | None] = [*namespaces] or [None]
        self._denied: set[str | None] = set()
        self._seen: set[str | None] = set()

    def knows(self, namespace: str) -> bool:
        """Whether all of a namespace has been listed; on less nothing can be decided.

        If not, a resync follows soon: whoever asks has seen an object of it.
        """
        known = None in self._seen or namespace in self._seen
        if not known:
            self._missed.set()
        return known

    def listed(self) -> None:
        """An object was listed for a watch: the first of them all is known, any later one is a gap.

        Then what has gone meanwhile is looked for at once.
        """
        now = self._monotonic()
        if now - self._listed_at > _APART_SECONDS:
            logger.info("a watch was restarted: looking for what it missed")
            self._missed.set()
        self._listed_at = now

    async def _until_due(self, seconds: float) -> bool:
        """Wait for so many seconds, or for a gap; whether there was one."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._missed.wait()
                await asyncio.sleep(_TOGETHER_SECONDS)
        gap = self._missed.is_set()
        self._missed.clear()
        return gap

    async def once(self) -> None:
        """List every kind whole; queue what differs from what was known.

        Raises:
            ApiError, TransportError: the lists could not be had; the store keeps what it had.
        """
        await self._everywhere(self._whole)

    async def _whole(self, kind: Kind, namespace: str | None) -> None:
        await take_in(self._kube, self._store, self._queue, kind, namespace)

    async def _news(self, kind: Kind, namespace: str | None) -> None:
        if not await _nothing_new(self._kube, self._store, self._queue, kind, namespace):
            await self._whole(kind, namespace)

    async def _everywhere(self, look: Callable[[Kind, str | None], Awaitable[None]]) -> None:
        """Look at each kind in each place.

        A namespace that we have no rights in, since it was deleted or its RoleBinding was, keeps no
        other one waiting, and of what it held nothing is forgotten.

        Raises:
            ApiError, TransportError: of any other kind, or that of a place when all deny.
        """
        refusals: dict[str | None, ApiError] = {}
        for namespace in self._places:
            try:
                for kind in WATCHED:
                    await look(kind, namespace)
            except ApiError as error:
                if error.status != HTTPStatus.FORBIDDEN:
                    raise
                refusals[namespace] = error
            else:
                self._seen_whole(namespace)
        reclaim()
        if len(refusals) == len(self._places):
            raise next(iter(refusals.values()))
        self._note(refusals)

    def _seen_whole(self, namespace: str | None) -> None:
        """Queue the models of a namespace that could not be decided on before."""
        if namespace in self._seen:
            return
        self._seen.add(namespace)
        for key in self._store.models():
            if namespace in (None, key[0]):
                self._queue.add(key)

    def _note(self, refusals: Mapping[str | None, ApiError]) -> None:
        """Log once for each namespace that denies access, and once when it allows it again."""
        for namespace in refusals.keys() - self._denied:
            logger.warning(
                "a namespace cannot be listed: its models are left as they are",
                extra={"where": namespace, "error": str(refusals[namespace])},
            )
        for namespace in self._denied - refusals.keys():
            logger.info("a namespace can be listed again", extra={"where": namespace})
        self._denied = set(refusals)

    async def run(self, period: float) -> None:
        """Repeat forever, and whenever a watch has a gap: the level-triggered safety net.

        What the lists correct is queued. Of the rest, which is as it was when it was
        last looked at, a share is queued each time, so that every key is looked at in the end.
        """
        for turn in count():
            gap = await self._until_due(period * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311
            try:
                await self._everywhere(self._news)
            except (ApiError, TransportError) as error:
                logger.warning("resync failed", extra={"error": str(error)})
                if gap:  # What it hides must not wait for the next period.
                    await asyncio.sleep(_APART_SECONDS)
                    self._missed.set()
                continue
            for key in self._store.models():
                if zlib.crc32("/".join(key).encode()) % _SHARES == turn % _SHARES:
                    self._queue.add(key)

"""Leader election on a coordination.k8s.io Lease.

The leader writes; the others keep their view of the cluster warm. A leader stops being one by its
own monotonic clock before its Lease can expire for anybody else: every write asks ``is_leader``.
Others judge the Lease by how long they themselves saw it unchanged, never by its timestamps, so
clocks need not agree. Renewals are conditional on the resourceVersion.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime

from slipway_operator.api.model_deployment import Json
from slipway_operator.api.settings import LeaderElection
from slipway_operator.reconcile.kinds import LEASE
from slipway_operator.reconcile.kube import KubeClient

logger = logging.getLogger(__name__)


def _micro_time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class LeaderElector:
    """Takes, renews and gives back one Lease."""

    def __init__(
        self,
        kube: KubeClient,
        settings: LeaderElection,
        namespace: str,
        identity: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._settings = settings
        self._namespace = namespace
        self._identity = identity
        self._monotonic = monotonic
        self._valid_until = float("-inf")
        self._lease: Json | None = None
        self._seen: tuple[str, float] | None = None
        self.elected = asyncio.Event()

    def is_leader(self) -> bool:
        """Whether this process may write at this instant."""
        return self._monotonic() < self._valid_until

    async def run(self) -> None:
        """Wait for the Lease, then hold it; returns when it could not be renewed in time."""
        while not await self._attempt():  # noqa: ASYNC110 - the other side is a server
            await asyncio.sleep(self._settings.retry_period_seconds)
        logger.info("elected leader", extra={"identity": self._identity})
        self.elected.set()
        while self.is_leader():
            await asyncio.sleep(self._settings.retry_period_seconds)
            await self._attempt()
        logger.error("leadership lost: the lease could not be renewed in time")

    async def _attempt(self) -> bool:
        """Take or renew the Lease; any failure counts as not renewed."""
        started = self._monotonic()
        try:
            # A renewal that hangs must not outlast the time in which it would be of use.
            async with asyncio.timeout(self._settings.renew_deadline_seconds):
                held = await self._take()
        except Exception as error:  # noqa: BLE001 - whatever it is, the lease is not renewed
            logger.warning("the lease could not be renewed", extra={"error": str(error)})
            self._lease = None
            return False
        if held:
            # Counted from before the request: others count from when they see it, which is later.
            self._valid_until = started + self._settings.renew_deadline_seconds
        return held

    async def _take(self) -> bool:
        name = self._settings.name
        lease = self._lease or await self._kube.get(LEASE, self._namespace, name)
        if lease is None:
            self._lease = await self._kube.create(LEASE, self._new_lease())
            return True
        holder: str = lease["spec"].get("holderIdentity") or ""
        if holder not in ("", self._identity) and not self._expired(lease):
            return False
        previous = self._lease
        self._lease = None
        spec: Json = lease["spec"]
        taken: Json = {
            **spec,
            "holderIdentity": self._identity,
            "leaseDurationSeconds": math.ceil(self._settings.duration_seconds),
            "renewTime": _micro_time(),
        }
        if previous is None and holder != self._identity:
            taken["acquireTime"] = taken["renewTime"]
            taken["leaseTransitions"] = (spec.get("leaseTransitions") or 0) + 1
        self._lease = await self._kube.replace(LEASE, {**lease, "spec": taken})
        return True

    def _new_lease(self) -> Json:
        now = _micro_time()
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.name,
            "metadata": {"name": self._settings.name, "namespace": self._namespace},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": math.ceil(self._settings.duration_seconds),
                "acquireTime": now,
                "renewTime": now,
                "leaseTransitions": 0,
            },
        }

    def _expired(self, lease: Json) -> bool:
        """Whether the Lease has stood unchanged for its whole duration, by our own clock."""
        version: str = lease["metadata"]["resourceVersion"]
        if self._seen is None or self._seen[0] != version:
            self._seen = (version, self._monotonic())
            return False
        duration: float = lease["spec"].get("leaseDurationSeconds") or 1
        return self._monotonic() - self._seen[1] > duration

    async def release(self) -> None:
        """Give the Lease back, so that another takes over at once."""
        held = self.is_leader()
        self._valid_until = float("-inf")
        known, self._lease = self._lease, None
        if not held:
            return
        try:
            async with asyncio.timeout(self._settings.renew_deadline_seconds):
                # Unknown when a renewal was cut off half-way.
                lease = known or await self._kube.get(LEASE, self._namespace, self._settings.name)
                if lease is None or lease["spec"].get("holderIdentity") != self._identity:
                    return
                spec: Json = {**lease["spec"], "holderIdentity": "", "renewTime": _micro_time()}
                await self._kube.replace(LEASE, {**lease, "spec": spec})
        except Exception as error:  # noqa: BLE001 - it expires by itself
            logger.warning("the lease could not be given back", extra={"error": str(error)})
        else:
            logger.info("gave the lease back")

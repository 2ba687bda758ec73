"""Leader election on a coordination.k8s.io Lease.

The leader writes; the others keep their view of the cluster warm. A leader stops being one by its
own monotonic clock before its Lease can expire for anybody else: every write asks ``is_leader``.
Others judge the Lease by how long they themselves saw it unchanged, never by its timestamps, so
clocks need not agree. Renewals are conditional on the resourceVersion: one that was given up and
arrives late all the same is refused once anybody else holds the Lease.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from slipway_operator.api.model_deployment import Json
from slipway_operator.api.settings import LeaderElection
from slipway_operator.reconcile.kinds import LEASE
from slipway_operator.reconcile.kube import KubeClient

logger = logging.getLogger(__name__)

_MOMENT = 0.01
_ATTEMPTS = 3
"""How many attempts to renew fit into the renew deadline, if each of them hangs."""
_QUICK = 1 / 30
"""The share of the renew deadline within which an answer counts as a quick one."""


def _micro_time() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class _Seen:
    """Another's Lease as it was first seen: its resourceVersion, and until when it counts."""

    version: str
    expires: float


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
        self._seen: _Seen | None = None
        self.elected = asyncio.Event()

    def is_leader(self) -> bool:
        """Whether this process may write at this instant."""
        return self._monotonic() < self._valid_until

    async def run(self) -> None:
        """Wait for the Lease, then hold it; returns when it could not be renewed in time."""
        started = self._monotonic()
        while not await self._attempt_in_time():
            await self._pause(started)
            started = self._monotonic()
        logger.info("elected leader", extra={"identity": self._identity})
        self.elected.set()
        while self.is_leader():
            await self._pause(started, self._until_renewal(started))
            started = self._monotonic()
            await self._renew()
        logger.error("leadership lost: the lease was not renewed in time, or another took it")

    async def _renew(self) -> None:
        """Renew the Lease; returns when it is renewed or every attempt has failed.

        An attempt that hangs is not given up but joined by another one on a new connection: either
        the connection is dead, or the API server is slow.
        """
        attempts: set[asyncio.Task[bool]] = set()
        patience = (
            self._settings.renew_deadline_seconds - self._settings.retry_period_seconds
        ) / _ATTEMPTS
        try:
            while self.is_leader():
                attempts.add(asyncio.create_task(self._attempt()))
                due = self._monotonic() + patience
                while attempts and (left := due - self._monotonic()) > 0:
                    done, attempts = await asyncio.wait(
                        attempts, timeout=left, return_when=asyncio.FIRST_COMPLETED
                    )
                    if any(attempt.result() for attempt in done):
                        return
                if not attempts:
                    return
        finally:
            if attempts:
                for attempt in attempts:
                    attempt.cancel()
                await asyncio.gather(*attempts, return_exceptions=True)

    def _until_renewal(self, started: float) -> float:
        """Seconds from the start of the last attempt to the next.

        Renewals are most of what an idle leader does. After a quick one half of the renew deadline
        suffices for the next; after a slow one two thirds are left for it.
        """
        deadline, retry = self._settings.renew_deadline_seconds, self._settings.retry_period_seconds
        if self._valid_until < started + deadline:
            return retry  # it was not renewed
        quick = self._monotonic() - started <= _QUICK * deadline
        return max(retry, deadline / (2 if quick else 3))

    async def _pause(self, started: float, period: float | None = None) -> None:
        """Wait for a period since the last attempt began, or until another's Lease runs out.

        Args:
            period: seconds; the retry period unless it is given.
        """
        due = started + (self._settings.retry_period_seconds if period is None else period)
        if self._seen is not None and started <= self._seen.expires:
            # A moment later: the Lease counts as expired only once its time has passed.
            due = min(due, self._seen.expires + _MOMENT)
        await asyncio.sleep(max(_MOMENT, due - self._monotonic()))

    async def _attempt(self) -> bool:
        """Take or renew the Lease; any failure counts as not renewed."""
        started = self._monotonic()
        try:
            held = await self._take()
        except Exception as error:  # noqa: BLE001 - whatever it is, the lease is not renewed
            logger.warning("the lease could not be renewed", extra={"error": str(error)})
            self._lease = None
            return False
        if held:
            # Counted from before the request: others count from when they see it, which is later.
            until = started + self._settings.renew_deadline_seconds
            self._valid_until = max(self._valid_until, until)
        else:
            # Another process holds it, whoever wrote that: the rest of our own time is void.
            self._valid_until = float("-inf")
        return held

    async def _attempt_in_time(self) -> bool:
        """An attempt that is given up once the Lease would be too old to be useful."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.renew_deadline_seconds):
                return await self._attempt()
        logger.warning("the lease could not be had in time")
        return False

    async def _take(self) -> bool:
        name = self._settings.name
        lease = self._lease or await self._kube.get(LEASE, self._namespace, name)
        if lease is None:
            self._lease = await self._kube.create(LEASE, self._new_lease())
            return True
        spec: Json = lease.get("spec") or {}
        holder: str = spec.get("holderIdentity") or ""
        if holder not in ("", self._identity) and not self._expired(lease):
            return False
        previous = self._lease
        self._lease = None
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
        if self._seen is None or self._seen.version != version:
            duration: float = lease["spec"].get("leaseDurationSeconds") or 1
            self._seen = _Seen(version, self._monotonic() + duration)
        return self._monotonic() > self._seen.expires

    async def release(self) -> None:
        """Give the Lease back, so that another takes over at once."""
        held = self.is_leader()
        self._valid_until = float("-inf")
        self._lease = None
        if not held:
            return
        try:
            async with asyncio.timeout(self._settings.renew_deadline_seconds):
                # Read again: a renewal may have been interrupted halfway.
                lease = await self._kube.get(LEASE, self._namespace, self._settings.name)
                spec: Json = (lease or {}).get("spec") or {}
                if lease is None or spec.get("holderIdentity") != self._identity:
                    return
                given: Json = {**spec, "holderIdentity": "", "renewTime": _micro_time()}
                await self._kube.replace(LEASE, {**lease, "spec": given})
        except Exception as error:  # noqa: BLE001 - it expires by itself
            logger.warning("the lease could not be given back", extra={"error": str(error)})
        else:
            logger.info("gave the lease back")

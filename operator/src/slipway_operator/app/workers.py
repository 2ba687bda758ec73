"""The workers: take a key, reconcile it, and handle every way of failing."""

import asyncio
import logging
import time
from collections.abc import Callable

from slipway_operator.app.metrics import Metrics
from slipway_operator.app.queue import WorkQueue
from slipway_operator.app.tasks import first_of
from slipway_operator.reconcile.kube import ApiError, NotLeaderError, TransportError
from slipway_operator.reconcile.noise import without_noise
from slipway_operator.reconcile.reconciler import Reconciler, UnsettledError
from slipway_operator.reconcile.store import Key

logger = logging.getLogger(__name__)

_ONLY_URGENT = 3


class Workers:
    """A bounded number of concurrent reconciles."""

    def __init__(
        self,
        queue: WorkQueue,
        reconciler: Reconciler,
        metrics: Metrics,
        knows: Callable[[str], bool] = lambda _namespace: True,
    ) -> None:
        """``knows`` tells whether all of a namespace is known: if not, its keys are left alone."""
        self._queue = queue
        self._reconciler = reconciler
        self._metrics = metrics
        self._knows = knows

    async def run(self, count: int) -> None:
        """Work until cancelled, or until this process is no longer the leader.

        Beside these ``count`` workers there are more that take urgent keys only, so that slow
        requests for other keys, as when a thousand Services are created, hold none of them up.
        """
        await first_of(
            *(self._work(only_urgent=False) for _ in range(count)),
            *(self._work(only_urgent=True) for _ in range(_ONLY_URGENT * count)),
        )

    async def _work(self, *, only_urgent: bool) -> None:
        """One worker; it ends by raising, never by returning."""
        while True:
            key = await self._queue.get(only_urgent=only_urgent)
            try:
                if self._knows(key[0]):
                    await self._one(key)
            finally:
                self._queue.done(key)
            # A reconcile that finds nothing to do never awaits. Thousands of them in a row, as when
            # a new leader looks at all models, must not keep the Lease from being renewed.
            await asyncio.sleep(0)

    async def _one(self, key: Key) -> None:
        started = time.perf_counter()
        outcome = "error"
        try:
            result = await self._reconciler.reconcile(key)
        except NotLeaderError:
            raise
        except (ApiError, TransportError, UnsettledError) as error:
            kind = getattr(error, "reason", "") or type(error).__name__
            self._metrics.failed(kind)
            delay = self._queue.failed(key)
            logger.warning(
                "reconcile will be tried again",
                extra={"error": without_noise(str(error))[:1024], "in_seconds": delay},
            )
        except Exception:  # one object's defect must not stop the others
            self._metrics.failed("Defect")
            delay = self._queue.failed(key)
            logger.exception("reconcile failed", extra={"in_seconds": delay})
        else:
            self._queue.succeeded(key)
            if result.unfinished:
                self._queue.add(key)
            if result.requeue_after is not None:
                self._queue.add_after(key, result.requeue_after)
            outcome = result.outcome
        seconds = time.perf_counter() - started
        self._metrics.reconcile_seconds.labels(outcome).observe(seconds)
        logger.debug("reconciled", extra={"outcome": outcome, "seconds": round(seconds, 4)})

"""One reconcile: observe, decide, execute; again while the store turns out to be behind."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from slipway_operator.api.names import short_digest
from slipway_operator.api.settings import Settings
from slipway_operator.reconcile import log_context
from slipway_operator.reconcile.decide import decide
from slipway_operator.reconcile.execute import Executor, StaleError
from slipway_operator.reconcile.fetch_log import FetchLog
from slipway_operator.reconcile.lost_revisions import LostRevisions
from slipway_operator.reconcile.observation import Observation, Obstacle
from slipway_operator.reconcile.observe import observe
from slipway_operator.reconcile.pace import StatusPace
from slipway_operator.reconcile.pod_events import PodEvents
from slipway_operator.reconcile.store import Key, Store

_ATTEMPTS = 8


class UnsettledError(Exception):
    """The object kept changing under the reconcile: try again a little later."""


@dataclass(frozen=True)
class Result:
    """The result of a reconcile.

    Attributes:
        outcome: one word for metrics and logs.
        requeue_after: seconds until another reconcile is due without any event.
        labels: revision and digest, for the logs.
        unfinished: the key is to be queued again for the rest, behind more urgent ones.
    """

    outcome: str
    requeue_after: float | None = None
    labels: dict[str, str] | None = None
    unfinished: bool = False


def _digest(obs: Observation) -> str:
    """Of what the spec asks for; nothing where the spec cannot be read."""
    return "" if obs.model.unreadable else short_digest(obs.model.spec.model.digest)


class Reconciler:
    """Reconciles one key at a time; all that it decides from is in the cluster."""

    def __init__(
        self,
        store: Store,
        executor: Executor,
        pod_events: PodEvents,
        fetch_log: FetchLog,
        lost_revisions: LostRevisions,
        pace: StatusPace,
        settings: Settings,
        clock: Callable[[], datetime],
        served: Callable[[str], frozenset[str]] = lambda _namespace: frozenset(),
    ) -> None:
        """``served`` returns the names of the optional kinds that can be used in a namespace."""
        self._store = store
        self._executor = executor
        self._pod_events = pod_events
        self._fetch_log = fetch_log
        self._lost_revisions = lost_revisions
        self._pace = pace
        self._settings = settings
        self._clock = clock
        self._served = served

    async def reconcile(self, key: Key) -> Result:
        """Bring one ModelDeployment closer to its spec.

        Raises:
            UnsettledError, ApiError, TransportError, NotLeaderError: nothing is lost; try again.
        """
        log_context.begin(*key)
        obstacle: Obstacle | None = None
        searched = False
        for _ in range(_ATTEMPTS):
            obs = observe(self._store, key, obstacle)
            if obs is None:
                return Result("gone")
            log_context.add(digest=_digest(obs))
            failures = await self._pod_events.mount_failures(obs)
            obs = replace(obs, mount_failures=failures, served=self._served(key[0]))
            if self._settings.fetch_progress:
                obs = replace(obs, download=await self._fetch_log.download(obs))
            plan = decide(obs, self._settings, self._clock())
            log_context.add(**plan.labels)
            if plan.misses_revision and not searched:
                searched = True
                if await self._lost_revisions.found(obs.model):
                    continue
            plan = self._pace.paced(plan, obs)
            try:
                met = await self._executor.execute(plan, obs)
            except StaleError:
                continue
            if met is None:
                return Result(plan.outcome, plan.requeue_after, plan.labels, plan.unfinished)
            obstacle = met
        raise UnsettledError("the object kept changing")

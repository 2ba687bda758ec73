"""The operator's process: its tasks, in which order they start, and how they end."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import kopf
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException
from yaml import YAMLError

from slipway_operator.api.model_deployment import Json
from slipway_operator.api.settings import Settings
from slipway_operator.app import memory
from slipway_operator.app.errors import CannotStartError
from slipway_operator.app.handlers import build_registry, build_settings
from slipway_operator.app.http import listen, serve_http
from slipway_operator.app.leader import LeaderElector
from slipway_operator.app.metrics import Metrics
from slipway_operator.app.optional_kinds import OptionalKinds
from slipway_operator.app.queue import WorkQueue
from slipway_operator.app.resync import Resync
from slipway_operator.app.tasks import first_of
from slipway_operator.app.workers import Workers
from slipway_operator.reconcile.clock import ServerClock
from slipway_operator.reconcile.contention import Contention
from slipway_operator.reconcile.execute import Executor
from slipway_operator.reconcile.fetch_log import FetchLog
from slipway_operator.reconcile.kube import (
    ApiError,
    KubeClient,
    NotLeaderError,
    TransportError,
    connect,
    load_configuration,
)
from slipway_operator.reconcile.lean_transport import connect_lean
from slipway_operator.reconcile.lost_revisions import LostRevisions
from slipway_operator.reconcile.pace import StatusPace
from slipway_operator.reconcile.pod_events import PodEvents
from slipway_operator.reconcile.reconciler import Reconciler
from slipway_operator.reconcile.store import Store

logger = logging.getLogger(__name__)

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_FIRST_SYNC_RETRY_SECONDS = 1.0


def _own_namespace(settings: Settings) -> str:
    """Where the Lease lives: as configured, else where this pod runs."""
    if settings.leader_election.namespace:
        return settings.leader_election.namespace
    if name := os.environ.get("POD_NAMESPACE"):
        return name
    return _NAMESPACE_FILE.read_text().strip() if _NAMESPACE_FILE.exists() else "default"


def _identity() -> str:
    """Unique to this process: a restarted one must not mistake itself for its predecessor."""
    return f"{os.environ.get('POD_NAME') or socket.gethostname()}_{uuid4().hex[:8]}"


class _Operator:
    """The parts of one process, wired together."""

    def __init__(
        self, settings: Settings, kube: KubeClient, lease_kube: KubeClient, clock: ServerClock
    ) -> None:
        self.settings = settings
        self.kube = kube
        self.store = Store(self._serves)
        self.metrics = Metrics(self._statuses)
        self.queue = WorkQueue(self.metrics.queue_seconds.observe)
        election, namespace = settings.leader_election, _own_namespace(settings)
        self.elector = LeaderElector(lease_kube, election, namespace, _identity())
        writer = kube.guarded(self.elector.is_leader)
        contention = Contention(settings.conflict_backoff_seconds)
        executor = Executor(
            writer, self.store, contention, clock.now, self.metrics.judged, self.metrics.told
        )
        self.optional = OptionalKinds(kube, self.store, self.queue, settings)
        reconciler = Reconciler(
            self.store,
            executor,
            PodEvents(kube, clock.now),
            FetchLog(kube, clock.now),
            LostRevisions(kube, self.store),
            StatusPace(),
            settings,
            clock.now,
            self.optional.served,
        )
        self.resync = Resync(kube, self.store, self.queue, settings.namespaces)
        self.workers = Workers(self.queue, reconciler, self.metrics, self.resync.knows)
        self.synced = False
        self._listed = asyncio.Event()
        self.metrics.leader.labels(f"{namespace}/{election.name}").set_function(
            lambda: float(self.elector.is_leader())
        )
        # A process that does not lead takes nothing from its queue, and so keeps nobody waiting.
        self.metrics.queue_depth.set_function(
            lambda: float(len(self.queue)) if self.elector.is_leader() else 0.0
        )
        self.metrics.models.set_function(lambda: float(len(self.store.models())))

    def _serves(self, model: Json) -> bool:
        return self.settings.selector.matches(model["metadata"].get("labels") or {})

    def _statuses(self) -> Iterator[Json]:
        models = (self.store.model(key) for key in self.store.models())
        return (model.get("status") or {} for model in models if model is not None)

    async def watch(self, stop: asyncio.Event, heed_signals: Callable[[], None]) -> None:
        """kopf's watches; returns when told to stop, or when kopf gives up.

        kopf takes the signals for itself as it starts: ``heed_signals`` takes them back.

        They begin once everything could be listed: kopf looks for the kinds when it starts, and
        would never watch one that comes later.
        """
        stopping, listed = (asyncio.create_task(event.wait()) for event in (stop, self._listed))
        await asyncio.wait({stopping, listed}, return_when=asyncio.FIRST_COMPLETED)
        for task in (stopping, listed):
            task.cancel()
        if stop.is_set():
            return
        started = asyncio.Event()

        async def take_back() -> None:
            await started.wait()
            heed_signals()

        taking_back = asyncio.create_task(take_back())
        await kopf.operator(
            ready_flag=started,
            registry=build_registry(self.store, self.queue, self.resync.listed),
            settings=build_settings(),
            clusterwide=not self.settings.namespaces,
            namespaces=self.settings.namespaces,
            stop_flag=stop,
        )
        taking_back.cancel()

    async def work(self) -> None:
        """Fill the store, wait for the lease, then reconcile until the lease is lost."""
        while not self.synced:
            try:
                await self.resync.once()
                self._listed.set()
                await self.optional.once()
                self.synced = True
            except (ApiError, TransportError) as error:
                logger.warning("waiting for the API server", extra={"error": str(error)})
                await asyncio.sleep(_FIRST_SYNC_RETRY_SECONDS)
        await first_of(
            self._lead(), self.resync.run(self.settings.resync_seconds), self.optional.run()
        )

    async def _lead(self) -> None:
        await first_of(self.elector.run(), self._reconcile())

    async def _reconcile(self) -> None:
        await self.elector.elected.wait()
        for key in self.store.models():
            self.queue.add(key)
        with contextlib.suppress(NotLeaderError):
            await self.workers.run(self.settings.workers)


async def _configuration() -> Configuration:
    try:
        return await load_configuration()
    except (ConfigException, OSError, YAMLError) as error:
        raise CannotStartError(
            f"the API server's address is not known: {' '.join(str(error).split())};"
            " a pod has its ServiceAccount, elsewhere KUBECONFIG names a kubeconfig"
        ) from None


async def run_operator(settings: Settings) -> int:
    """Run until SIGTERM or until something essential ends.

    Returns:
        The exit code: 0 after SIGTERM or SIGINT, 1 when the process should be restarted.

    Raises:
        CannotStartError: its port is taken, or the API server's address is unknown.
    """
    memory.keep()
    listener = listen(settings.http_port)
    clock = ServerClock()
    kube = connect(await _configuration(), clock)
    # The Lease has connections of its own: a renewal never waits behind other requests, and after
    # one that hung it does not try the other requests' connections, which may hang as well.
    lease_kube = connect_lean(await _configuration())
    operator = _Operator(settings, kube, lease_kube, clock)
    stop = asyncio.Event()
    asked = asyncio.Event()

    def heed_signals() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, asked.set)

    heed_signals()
    watching = asyncio.create_task(operator.watch(stop, heed_signals), name="watch")
    working = asyncio.create_task(operator.work(), name="work")
    http = await serve_http(
        listener,
        operator.metrics,
        alive=lambda: not watching.done() and not working.done(),
        ready=lambda: operator.synced,
    )
    asking = asyncio.create_task(asked.wait(), name="signal")
    done, _ = await asyncio.wait({watching, working, asking}, return_when=asyncio.FIRST_COMPLETED)
    # When kopf fails it also cancels tasks that it did not start.
    code = 0 if asked.is_set() else 1
    for task in done - {asking}:
        logger.error(
            "a part of the operator ended; the process exits to be restarted",
            extra={"part": task.get_name()},
            exc_info=None if task.cancelled() else task.exception(),
        )
    # Work ends before the lease is given back: the next leader may start at once.
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    await operator.elector.release()
    stop.set()
    await asyncio.wait({watching}, timeout=5)
    watching.cancel()
    await http.cleanup()
    await kube.close()
    await lease_kube.close()
    return code

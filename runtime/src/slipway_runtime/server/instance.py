"""The servers of one process: HTTP, gRPC, traces. Made, loaded, ready, drained.

Where its connections come from, and who tells it to drain, is the business of its owner: `serve`
alone, or a worker's supervisor.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import orjson

from slipway_runtime.artifact.digest import Digest
from slipway_runtime.errors import Failure, InternalError, InvalidArguments
from slipway_runtime.inference.threads import cpu_quota
from slipway_runtime.metrics import Metrics
from slipway_runtime.server.access import Access
from slipway_runtime.server.access_log import AccessLog
from slipway_runtime.server.app import App
from slipway_runtime.server.busy_poll import BusyPoll
from slipway_runtime.server.connection import connections_for
from slipway_runtime.server.http_server import HttpServer
from slipway_runtime.server.intake import Intake
from slipway_runtime.server.lifecycle import Lifecycle, Phase
from slipway_runtime.server.loader import load
from slipway_runtime.server.turns import Turns
from slipway_runtime.settings import ServeSettings

if TYPE_CHECKING:
    from slipway_runtime.server.grpc.server import GrpcServer
    from slipway_runtime.server.routes import ModelRoutes
    from slipway_runtime.server.tracing import Tracing

METRICS: Final = "metrics"
STATISTICS: Final = "statistics"

_LAST_SPANS_SECONDS: Final = 3.0
_MICROSECONDS: Final = 1e6
# Objects made less objects freed, then how often each older generation is spared.
_COLLECTOR_THRESHOLDS: Final = (10_000, 20, 20)

Gather = Callable[[str], Awaitable[bytes]]

logger = logging.getLogger(__name__)


class Instance:
    """The servers of one process. ``gather`` asks all workers for METRICS or STATISTICS and
    returns the sum, where there are several.
    """

    def __init__(
        self,
        name: str,
        digest: Digest,
        settings: ServeSettings,
        *,
        on_closed: Callable[[], object] | None = None,
        gather: Gather | None = None,
    ) -> None:
        self._name = name
        self._digest = digest
        self._settings = settings
        self._gather = gather
        self.metrics = Metrics(name, digest.version, str(digest))
        self.lifecycle = Lifecycle(name, digest, self.metrics)
        self._access_log: AccessLog | None = None
        if settings.access_log and AccessLog.enabled():
            self._access_log = AccessLog(str(digest), settings.log_format)
        self._app = App(self.lifecycle, self._access_log)
        self._app.gather = gather
        self._poll = BusyPoll(_busy_poll_seconds(settings))
        self._turns = Turns()
        self.metrics.deferred = lambda: len(self._turns)
        self._intake = Intake(settings.intake_bytes)
        self.metrics.body_bytes = lambda: self._intake.held
        self._access = Access(settings)
        self._app.tokens = self._access.tokens
        answer = self._app.answer
        self._rpc: GrpcServer | None = None
        self.secure: HttpServer | None = None
        if self._access.certificate is not None:
            tls = self._access.context
            make = connections_for(answer)
            self.secure = HttpServer(make, settings, self.metrics, tls, on_closed)
            answer = self._app.answer_in_the_clear
        make = connections_for(answer)
        self.plain = HttpServer(make, settings, self.metrics, on_closed=on_closed)
        for server in self._servers:
            self._share(server)
        self._routes: ModelRoutes | None = None
        self._on_closed = on_closed
        self._tracing: Tracing | None = None
        self._watch = asyncio.create_task(self._access.watch())

    async def start_tracing(self) -> None:
        """Make what takes the spans, if they have somewhere to go.

        Raises:
            InvalidArguments: the packages that send them are not installed.
        """
        if not self._settings.tracing:
            return

        def build() -> Tracing:
            from slipway_runtime.server.tracing import Tracing  # noqa: PLC0415

            return Tracing(self._name, self._digest)

        try:
            self._tracing = self._app.tracing = await asyncio.to_thread(build)
        except ImportError as error:
            raise InvalidArguments(
                "OTEL_EXPORTER_OTLP_ENDPOINT asks for traces, and this installation cannot send"
                " them: install slipway-runtime[tracing]"
            ) from error

    async def start_grpc(self) -> HttpServer:
        """Make the gRPC server, and return what takes its connections."""

        def build() -> type[GrpcServer]:
            from slipway_runtime.server.grpc.server import GrpcServer  # noqa: PLC0415

            return GrpcServer

        server = await asyncio.to_thread(build)
        self._rpc = server(
            self.lifecycle,
            self._settings,
            self.metrics,
            self._access,
            self._access_log,
            self._on_closed,
        )
        self._rpc.tracing = self._tracing
        self._share(self._rpc.http)
        return self._rpc.http

    def _share(self, server: HttpServer) -> None:
        """Let a server count with the others."""
        server.connections.poll = self._poll
        server.connections.turns = self._turns
        server.connections.intake = self._intake

    @property
    def latest_connection(self) -> float:
        """When the newest connection came, by the clock of time.monotonic()."""
        return max(server.connections.latest for server in self._servers)

    @property
    def _servers(self) -> list[HttpServer]:
        servers = (self.plain, self.secure, self.rpc)
        return [server for server in servers if server is not None]

    @property
    def rpc(self) -> HttpServer | None:
        """What takes the connections of gRPC, if it was started."""
        return None if self._rpc is None else self._rpc.http

    def install(self, routes: ModelRoutes) -> None:
        """Serve a loaded model from now on, and be ready."""
        routes.service.gather = self._gather
        self._poll.in_flight = lambda: routes.service.in_flight
        self._routes = routes
        self._app.install(routes)
        if self._rpc is not None:
            self._rpc.install(routes.service)
        model = routes.model
        self.lifecycle.providers, self.lifecycle.passed_over = model.providers, model.passed_over
        self.metrics.runs_on(model.providers, model.passed_over)
        _spare_the_collector()
        self.lifecycle.enter(Phase.READY)
        asyncio.get_running_loop().run_in_executor(None, self._finish_imports)

    def _finish_imports(self) -> None:
        """Import what is needed soon, and was not worth being ready later."""
        self.metrics.prepare()
        _spare_the_collector()

    def told(self, what: str) -> bytes:
        """Return this process's part of METRICS or STATISTICS; nothing before `install`."""
        if what == METRICS:
            return self.metrics.render()
        if self._routes is None:
            return b""
        return orjson.dumps(self._routes.service.own_statistics())

    def drain(self) -> None:
        """Be ready no more, and serve on."""
        self.lifecycle.enter(Phase.DRAINING)
        if self._rpc is not None:
            self._rpc.drain()

    async def stop(self, seconds: float) -> None:
        """Take no more requests, and finish what is in flight, for so many seconds at most."""
        await asyncio.gather(*(server.stop(seconds) for server in self._servers))
        self._watch.cancel()
        if self._access_log is not None:
            self._access_log.flush()
        if self._tracing is not None:
            self._tracing.close(_LAST_SPANS_SECONDS)

    def load(self) -> asyncio.Future[ModelRoutes]:
        """Start loading, in a thread; the future has the routes, or the Failure."""
        loop = asyncio.get_running_loop()
        lifecycle = self.lifecycle
        loaded: asyncio.Future[ModelRoutes] = loop.create_future()

        def enter(phase: Phase) -> None:
            loop.call_soon_threadsafe(lifecycle.enter, phase)

        def settle(routes: ModelRoutes | None, error: Exception | None) -> None:
            if loaded.cancelled():
                return
            if error is not None:
                loaded.set_exception(error)
            elif routes is not None:
                loaded.set_result(routes)

        def run() -> None:
            routes, failure = None, None
            try:
                routes = load(
                    self._name,
                    self._digest,
                    self._settings,
                    self.metrics,
                    enter,
                    lambda: lifecycle.unready,
                )
            except Failure as error:
                failure = error
            except Exception as error:
                logger.exception("a defect while loading")
                failure = InternalError(f"a defect while loading the model: {type(error).__name__}")
            with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits any longer.
                loop.call_soon_threadsafe(settle, routes, failure)

        # A daemon, so that a load that hangs does not keep a stopped process alive.
        threading.Thread(target=run, name="loader", daemon=True).start()
        return loaded


def _busy_poll_seconds(settings: ServeSettings) -> float:
    """Return how long the loop may stay awake: not at all with less than a core to itself.

    Where the kernel stops a process that has used up its quota, each microsecond awake is missing
    in the next request.
    """
    quota = cpu_quota()
    if quota is not None and quota < 1.0:
        return 0.0
    return settings.busy_poll_microseconds / _MICROSECONDS


def _spare_the_collector() -> None:
    """Exempt all that stays from garbage collection, and look less often for cycles.

    Requests make none, and most of what the collector would go through is the modules.
    """
    gc.freeze()
    gc.set_threshold(*_COLLECTOR_THRESHOLDS)

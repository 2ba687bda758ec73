"""`slipway-runtime serve`: listen, load, serve, drain.

A drain begins long before the listening socket closes, since the rest of the cluster still sends
traffic here:

    SIGTERM -> not ready, every answer says `connection: close`     (drain delay)
            -> no new connections; what is on its way in is still answered   (a moment)
            -> close idle connections, finish what is in flight     (drain timeout)
            -> exit 0
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from typing import TYPE_CHECKING

import uvloop

from slipway_runtime.artifact.digest import Digest
from slipway_runtime.errors import Failure, InternalError, InvalidArguments
from slipway_runtime.metrics import Metrics
from slipway_runtime.server.access import tls_context, tokens_of
from slipway_runtime.server.app import App
from slipway_runtime.server.http_server import HttpServer
from slipway_runtime.server.lifecycle import Lifecycle, Phase
from slipway_runtime.server.listener import listen
from slipway_runtime.server.loader import load
from slipway_runtime.settings import ServeSettings

if TYPE_CHECKING:
    from slipway_runtime.server.grpc_server import GrpcServer
    from slipway_runtime.server.routes import ModelRoutes
    from slipway_runtime.server.tracing import Tracing

logger = logging.getLogger(__name__)

_LAST_SPANS_SECONDS = 3.0


def serve(name: str, digest: Digest, settings: ServeSettings) -> None:
    """Serve until SIGTERM or SIGINT has drained the server.

    Raises:
        Failure: the model cannot be served; the process should end at once.
    """
    listener = listen(settings.host, settings.port)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(name, digest, settings, listener))


async def _serve(
    name: str, digest: Digest, settings: ServeSettings, listener: socket.socket
) -> None:
    loop = asyncio.get_running_loop()
    metrics = Metrics(name, digest.version, str(digest))
    lifecycle = Lifecycle(name, digest, metrics)
    app = App(lifecycle, access_log=settings.access_log)
    app.tracing = tracing = await _start_tracing(name, digest, settings)
    app.tokens = tokens_of(settings)
    servers = await _start_http(app, settings, metrics, listener)
    loading = _load_in_thread(loop, name, digest, settings, lifecycle)
    rpc = await _start_grpc(lifecycle, settings)
    if rpc is not None:
        rpc.tracing = tracing
    stop = asyncio.Event()
    hurry = asyncio.Event()
    _on_signals(loop, stop, hurry)
    logger.info("listening on port %d", listener.getsockname()[1])

    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({stopping, loading}, return_when=asyncio.FIRST_COMPLETED)
    if not loading.done():
        logger.info("asked to stop before the model was ready")
        return
    if not stopping.done():
        routes = loading.result()
        app.install(routes)
        if rpc is not None:
            await rpc.install(routes.service)
        lifecycle.providers = routes.model.providers
        lifecycle.enter(Phase.READY)
        await stopping
    await _drain(servers, rpc, lifecycle, hurry, settings)
    if tracing is not None:
        tracing.close(_LAST_SPANS_SECONDS)


async def _start_http(
    app: App, settings: ServeSettings, metrics: Metrics, listener: socket.socket
) -> list[HttpServer]:
    """Return the HTTP servers, listening: with TLS there is a second, and the first for probes."""
    tls = tls_context(settings)
    plain = HttpServer(app.answer if tls is None else app.answer_in_the_clear, settings, metrics)
    await plain.start(listener)
    if tls is None:
        return [plain]
    secured = listen(settings.host, settings.tls_port)
    secure = HttpServer(app.answer, settings, metrics)
    await secure.start(secured, tls)
    logger.info("TLS is at port %d", secured.getsockname()[1])
    return [plain, secure]


async def _start_tracing(name: str, digest: Digest, settings: ServeSettings) -> Tracing | None:
    """Return what takes the spans, if they have somewhere to go.

    Raises:
        InvalidArguments: the packages that send them are not installed.
    """
    if not settings.tracing:
        return None

    def build() -> Tracing:
        from slipway_runtime.server.tracing import Tracing  # noqa: PLC0415

        return Tracing(name, digest)

    try:
        return await asyncio.to_thread(build)
    except ImportError as error:
        raise InvalidArguments(
            "OTEL_EXPORTER_OTLP_ENDPOINT asks for traces, and this installation cannot send them:"
            " install slipway-runtime[tracing]"
        ) from error


async def _start_grpc(lifecycle: Lifecycle, settings: ServeSettings) -> GrpcServer | None:
    """Return the gRPC server, listening, if its port is on; the model loads meanwhile."""
    if settings.grpc_port is None:
        return None

    def build() -> type[GrpcServer]:
        from slipway_runtime.server.grpc_server import GrpcServer  # noqa: PLC0415

        return GrpcServer

    rpc = (await asyncio.to_thread(build))(lifecycle, settings)
    await rpc.start(settings.host, settings.grpc_port)
    return rpc


async def _drain(
    servers: list[HttpServer],
    rpc: GrpcServer | None,
    lifecycle: Lifecycle,
    hurry: asyncio.Event,
    settings: ServeSettings,
) -> None:
    lifecycle.enter(Phase.DRAINING)
    if rpc is not None:
        await rpc.drain()
    logger.info(
        "draining: serving on for %g s, then finishing what is in flight for up to %g s",
        settings.drain_delay,
        settings.drain_timeout,
    )
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(hurry.wait(), settings.drain_delay)
    await asyncio.gather(
        *(server.stop(settings.drain_timeout) for server in servers),
        *([rpc.stop(settings.drain_timeout)] if rpc is not None else []),
    )
    logger.info("drained")


def _load_in_thread(
    loop: asyncio.AbstractEventLoop,
    name: str,
    digest: Digest,
    settings: ServeSettings,
    lifecycle: Lifecycle,
) -> asyncio.Future[ModelRoutes]:
    """Start loading; the future has the routes, or the Failure."""
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
            routes = load(name, digest, settings, lifecycle.metrics, enter, lambda: lifecycle.ready)
        except Failure as error:
            failure = error
        except Exception as error:
            logger.exception("a defect while loading")
            failure = InternalError(f"a defect while loading the model: {type(error).__name__}")
        with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits any more.
            loop.call_soon_threadsafe(settle, routes, failure)

    # A daemon, so that a load that hangs does not keep a stopped process alive.
    threading.Thread(target=run, name="loader", daemon=True).start()
    return loaded


def _on_signals(loop: asyncio.AbstractEventLoop, stop: asyncio.Event, hurry: asyncio.Event) -> None:
    """SIGTERM drains; SIGINT, or a second signal, drains without the delay."""

    def terminate() -> None:
        if stop.is_set():
            hurry.set()
        stop.set()

    def interrupt() -> None:
        hurry.set()
        stop.set()

    loop.add_signal_handler(signal.SIGTERM, terminate)
    loop.add_signal_handler(signal.SIGINT, interrupt)

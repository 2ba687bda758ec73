"""`slipway-runtime serve`: listen, load, serve, drain.

uvicorn speaks HTTP; signals and the drain are ours, since its own shutdown begins by closing the
listening socket, while the rest of the cluster still sends traffic here:

    SIGTERM -> not ready, every answer says `connection: close`     (drain delay)
            -> no new connections; what is on its way in is still answered   (a moment)
            -> close idle connections, finish what is in flight     (drain timeout)
            -> exit 0
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import signal
import socket
import threading
from collections.abc import Generator
from typing import TYPE_CHECKING

import uvicorn
import uvloop

from slipway_runtime.artifact.digest import Digest
from slipway_runtime.errors import Failure, InternalError
from slipway_runtime.metrics import Metrics
from slipway_runtime.server.app import App
from slipway_runtime.server.connections import Connections
from slipway_runtime.server.lifecycle import Lifecycle, Phase
from slipway_runtime.server.listener import listen, refuse_new_connections
from slipway_runtime.server.loader import load
from slipway_runtime.settings import ServeSettings

if TYPE_CHECKING:
    from slipway_runtime.server.grpc_server import GrpcServer
    from slipway_runtime.server.routes import ModelRoutes

logger = logging.getLogger(__name__)

_LAST_MOMENT_SECONDS = 0.25


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
    connections = Connections(settings, metrics)
    server = _Server(
        uvicorn.Config(
            app,  # pyright: ignore[reportArgumentType]
            http=connections.protocol,  # pyright: ignore[reportArgumentType]
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=settings.keep_alive,
            timeout_graceful_shutdown=math.ceil(settings.drain_timeout),
        )
    )
    loading = _load_in_thread(loop, name, digest, settings, lifecycle)
    rpc = await _start_grpc(lifecycle, settings)
    stop = asyncio.Event()
    hurry = asyncio.Event()
    _on_signals(loop, stop, hurry)

    serving = asyncio.create_task(server.serve(sockets=[listener]))
    watching = asyncio.create_task(connections.watch())
    serving.add_done_callback(lambda _: watching.cancel())
    stopping = asyncio.create_task(stop.wait())
    logger.info("listening on port %d", listener.getsockname()[1])
    await asyncio.wait({serving, stopping, loading}, return_when=asyncio.FIRST_COMPLETED)
    if loading.done() and not stopping.done():
        routes = loading.result()
        app.install(routes)
        if rpc is not None:
            await rpc.install(routes.service)
        lifecycle.providers = routes.model.providers
        lifecycle.enter(Phase.READY)
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        serving.result()
        raise InternalError("the HTTP server ended by itself")
    if not loading.done():
        logger.info("asked to stop before the model was ready")
        return
    await _drain(server, serving, rpc, lifecycle, hurry, settings)


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
    server: _Server,
    serving: asyncio.Task[None],
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
    server.should_exit = True
    if rpc is not None:
        await asyncio.gather(serving, rpc.stop(settings.drain_timeout))
    await serving
    logger.info("drained")


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, and with a gentler end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the signals to `_on_signals`."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, answer what has arrived by then, and only then do as uvicorn does.

        uvicorn closes connections that look idle at once; one whose request is in the socket's
        buffer but not yet read looks so too, and would be reset.
        """
        for listener in sockets or []:
            refuse_new_connections(listener)
        await asyncio.sleep(_LAST_MOMENT_SECONDS)
        await super().shutdown(sockets)


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

"""`slipway-runtime serve`: listen, load, serve, drain. In one process, or as a supervisor's crew.

A drain begins long before the listening socket closes, since the rest of the cluster still sends
traffic here:

    SIGTERM -> not ready, every answer says `connection: close`     (drain delay, or longer)
            -> no new connections; what is on its way in is still answered   (a moment)
            -> close idle connections, finish what is in flight     (drain timeout)
            -> exit 0
"""

from __future__ import annotations

import asyncio
import logging
import socket

import uvloop

from slipway_runtime.artifact.digest import Digest
from slipway_runtime.server.drain import serve_on
from slipway_runtime.server.instance import Instance
from slipway_runtime.server.listener import GRPC_VARIABLES, listen
from slipway_runtime.server.signals import Signals
from slipway_runtime.settings import ServeSettings

logger = logging.getLogger(__name__)


def serve(name: str, digest: Digest, settings: ServeSettings) -> None:
    """Serve in this process until SIGTERM or SIGINT has drained it.

    Raises:
        Failure: the model cannot be served; the process should end at once.
    """
    listener = listen(settings.host, settings.port)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(name, digest, settings, listener))


async def _serve(
    name: str, digest: Digest, settings: ServeSettings, listener: socket.socket
) -> None:
    signals = Signals()
    instance = Instance(name, digest, settings)
    await instance.start_tracing()
    await instance.plain.listen(listener)
    if instance.secure is not None:
        secured = listen(settings.host, settings.tls_port)
        await instance.secure.listen(secured)
        logger.info("TLS is at port %d", secured.getsockname()[1])
    loading = instance.load()
    if settings.grpc_port is not None:
        called = listen(settings.host, settings.grpc_port, GRPC_VARIABLES)
        rpc = await instance.start_grpc()
        await rpc.listen(called)
        logger.info("gRPC listening on port %d", called.getsockname()[1])
    logger.info("listening on port %d", listener.getsockname()[1])

    stopping = asyncio.create_task(signals.stop.wait())
    await asyncio.wait({stopping, loading}, return_when=asyncio.FIRST_COMPLETED)
    if not loading.done():
        logger.info("asked to stop before the model was ready")
        return
    if not stopping.done():
        instance.install(loading.result())
        await stopping
    instance.drain()
    seconds = await serve_on(settings, signals.hurry, lambda: instance.latest_connection)
    await instance.stop(seconds)
    logger.info("drained")

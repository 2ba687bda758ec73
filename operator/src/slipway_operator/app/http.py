"""The operator's own HTTP routes: /metrics, /healthz and /readyz."""

import os
import socket
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from slipway_operator.app.errors import CannotStartError
from slipway_operator.app.metrics import Metrics


def listen(port: int) -> socket.socket:
    """Take a port of all addresses.

    Raises:
        CannotStartError: it is taken, or not for this user.
    """
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        return socket.create_server(("", port), family=family, dualstack_ipv6=both)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise CannotStartError(
            f"port {port} cannot be listened on: {reason}; httpPort of the configuration chooses"
            " another"
        ) from None


async def serve_http(
    listener: socket.socket,
    metrics: Metrics,
    alive: Callable[[], bool],
    ready: Callable[[], bool],
) -> web.AppRunner:
    """Answer there; the caller ends it with ``cleanup``."""

    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    def probe(check: Callable[[], bool]) -> Callable[[web.Request], object]:
        async def answer(_: web.Request) -> web.Response:
            return web.Response(text="ok\n") if check() else web.Response(status=503, text="no\n")

        return answer

    app = web.Application()
    app.router.add_get("/metrics", show_metrics)
    app.router.add_get("/healthz", probe(alive))  # pyright: ignore[reportArgumentType]
    app.router.add_get("/readyz", probe(ready))  # pyright: ignore[reportArgumentType]
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    return runner

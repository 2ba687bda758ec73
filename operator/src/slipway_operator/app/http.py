"""The operator's own HTTP routes: /metrics, /healthz and /readyz."""

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from slipway_operator.app.metrics import Metrics


async def serve_http(
    port: int,
    metrics: Metrics,
    alive: Callable[[], bool],
    ready: Callable[[], bool],
) -> web.AppRunner:
    """Listen on all addresses; the caller ends it with ``cleanup``."""

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
    await web.TCPSite(runner, port=port).start()
    return runner

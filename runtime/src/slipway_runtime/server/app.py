"""Every request's way to its answer: routing, health, metrics, errors, headers.

It knows nothing of models until `install` brings a loaded one's routes, so that the server
listens, and says what it is doing, from the first moment.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from slipway_runtime import __version__, metrics
from slipway_runtime.errors import (
    InsecureConnection,
    MethodNotAllowed,
    NotReady,
    RequestError,
    UnknownResource,
)
from slipway_runtime.protocol.v2_info import EXTENSIONS
from slipway_runtime.server import asgi, page
from slipway_runtime.server.access import OPEN, PROBES, Tokens
from slipway_runtime.server.compression import acceptable, deflate
from slipway_runtime.server.http import (
    CLIENT_GONE,
    ClientGoneError,
    Exchange,
    Response,
    error_response,
    json_response,
)
from slipway_runtime.server.lifecycle import Lifecycle
from slipway_runtime.server.phases import Phases

if TYPE_CHECKING:
    from slipway_runtime.server.access_log import AccessLog
    from slipway_runtime.server.routes import ModelRoutes
    from slipway_runtime.server.tracing import Tracing

Handler: TypeAlias = Callable[[Exchange], Awaitable[Response]]
Table: TypeAlias = Mapping[str, Mapping[str, Handler]]

logger = logging.getLogger(__name__)

_DOCUMENT: Final = "/openapi.json"
_OF_THE_MODEL: Final = (
    _DOCUMENT,
    "/example.json",
    "/predict",
    "/invocations",
    "/v2/repository/index",
)
_RETRY: Final = ((b"retry-after", b"%d" % (NotReady.retry_after or 0)),)
_TRACE_CONTEXT: Final = (b"traceparent", b"tracestate")
_READY_SUFFIX: Final = "/ready"
_WORTH_COMPRESSING: Final = 1024
_WORTH_A_THREAD: Final = 64 * 1024


class App:
    """The application of one server."""

    def __init__(self, lifecycle: Lifecycle, access_log: AccessLog | None = None) -> None:
        self._lifecycle = lifecycle
        self._access_log = access_log
        self.tracing: Tracing | None = None
        self.tokens: Tokens | None = None
        self.gather: Callable[[str], Awaitable[bytes]] | None = None
        self._routes: ModelRoutes | None = None
        self._documentation: asgi.Application | None = None
        self._documentation_lock = asyncio.Lock()
        self._digest_header = (b"slipway-model-digest", str(lifecycle.digest).encode())
        self._table: dict[str, Mapping[str, Handler]] = {
            "/v2": {"GET": self._server_metadata},
            "/v2/health/live": {"GET": self._live},
            "/v2/health/ready": {"GET": self._ready},
            "/health": {"GET": self._health},
            "/ping": {"GET": self._ready},
            "/metrics": {"GET": self._metrics},
            **page.routes(),
        }

    def install(self, routes: ModelRoutes) -> None:
        """Begin to serve a loaded model."""
        self._routes = routes
        identity = routes.model.identity
        table = routes.table()
        table[_DOCUMENT] = {"GET": self._document}
        for name in identity.names:
            for version in ("", f"/versions/{identity.version}", "/versions/1", "/versions/"):
                path = f"/v2/models/{name}{version}{_READY_SUFFIX}"
                table[path] = {"GET": self._model_ready}
        self._table.update(table)

    async def answer_in_the_clear(self, exchange: Exchange) -> Response:
        """Answer one request that came without TLS where TLS is asked for: a probe, or refused."""
        return await self.answer(exchange, secure=exchange.path in PROBES)

    async def answer(self, exchange: Exchange, *, secure: bool = True) -> Response:
        """Answer one request; the exchange then knows what is to be noted of it.

        Raises:
            ClientGoneError: there is nobody to answer.
        """
        started = time.perf_counter() - exchange.waited
        if self.tracing is not None:
            exchange.phases = Phases()
        try:
            if not secure:
                raise InsecureConnection("this port is for probes: use the one with TLS")
            if self.tokens is not None and exchange.path not in OPEN:
                self.tokens.check(exchange.header(b"authorization"))
            response = await self._handler(exchange)(exchange)
        except RequestError as error:
            response = error_response(error)
        except ClientGoneError:
            status = exchange.refused or CLIENT_GONE
            exchange.note = partial(self._note, exchange, started, time.perf_counter(), status, 0)
            raise
        except Exception:
            logger.exception(
                "a defect in the answer to a request",
                extra={"request_id": exchange.request_id.decode(), "path": exchange.path},
            )
            response = json_response(500, {"error": "a defect of the runtime; its log has more"})
        if exchange.accept_encoding and response.size >= _WORTH_COMPRESSING:
            response = await _compressed(response, exchange.accept_encoding)
        ended = time.perf_counter()
        exchange.note = partial(
            self._note, exchange, started, ended, response.status, response.size
        )
        return self._finished(response, exchange)

    def _note(
        self, exchange: Exchange, started: float, ended: float, status: int, size: int
    ) -> None:
        """Count, trace and log a request that has ended."""
        self._lifecycle.metrics.responded(status)
        trace = self._trace(exchange, started, ended, status)
        if self._access_log is not None:
            what = f"{exchange.method} {exchange.path} {status}"
            request_id = exchange.request_id.decode()
            self._access_log.note(what, request_id, size, ended - started, trace)

    def _trace(
        self, exchange: Exchange, started: float, ended: float, status: int
    ) -> Mapping[str, str]:
        """Note the request's spans; returns what the access log tells of them."""
        phases = exchange.phases
        # Probes and metrics would drown the rest.
        if self.tracing is None or phases is None or exchange.method != "POST":
            return {}
        attributes: dict[str, str | int] = {
            "http.request.method": exchange.method,
            "http.response.status_code": status,
            "url.path": exchange.path,
            "slipway.request.id": exchange.request_id.decode(),
        }
        carrier = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in exchange.headers
            if name in _TRACE_CONTEXT
        }
        known = exchange.path in self._table
        name = f"POST {exchange.path}" if known else "POST"
        trace_id = self.tracing.record(name, started, ended, attributes, carrier, phases)
        return {"trace_id": trace_id}

    def _finished(self, response: Response, exchange: Exchange) -> Response:
        """Return an answer as it leaves, with the usual headers."""
        headers = (*response.headers, self._digest_header, (b"x-request-id", exchange.request_id))
        # While draining every answer asks its client to reconnect: by then, to another pod.
        close = response.close or self._lifecycle.draining
        return Response(response.status, response.body, response.content_type, headers, close)

    def _handler(self, exchange: Exchange) -> Handler:
        path = exchange.path
        methods = self._table.get(path)
        if methods is None and len(path) > 1 and path.endswith("/"):
            methods = self._table.get(path.rstrip("/"))
        if methods is None:
            raise self._no_route(path)
        handler = methods.get("GET" if exchange.method == "HEAD" else exchange.method)
        if handler is None:
            allowed = ", ".join([*methods, *(["HEAD"] if "GET" in methods else [])])
            raise MethodNotAllowed(f"{path} takes {allowed}, not {exchange.method}", allowed)
        return handler

    def _no_route(self, path: str) -> RequestError:
        if self._routes is not None:
            return self._routes.unknown(path)
        if path in _OF_THE_MODEL or path.startswith(("/v1/models/", "/v2/models/")):
            return NotReady(f"the model is not ready yet: {self._lifecycle.phase}")
        return UnknownResource(f"there is no route {path[:200]!r}")

    async def _server_metadata(self, _exchange: Exchange) -> Response:
        return json_response(
            200, {"name": "slipway-runtime", "version": __version__, "extensions": EXTENSIONS}
        )

    async def _live(self, _exchange: Exchange) -> Response:
        return json_response(200, {"live": True})

    async def _ready(self, _exchange: Exchange) -> Response:
        return self._readiness({})

    async def _model_ready(self, _exchange: Exchange) -> Response:
        return self._readiness({"name": self._lifecycle.name})

    def _readiness(self, document: dict[str, object]) -> Response:
        ready = self._lifecycle.ready
        answer = {**document, "ready": ready, "phase": str(self._lifecycle.phase)}
        return json_response(200 if ready else 503, answer, () if ready else _RETRY)

    async def _health(self, _exchange: Exchange) -> Response:
        state = self._lifecycle
        status = "ok" if state.ready else "draining" if state.draining else "loading"
        document: dict[str, object] = {
            "status": status,
            "phase": str(state.phase),
            "phase_seconds": round(state.phase_seconds, 3),
            "model": state.name,
            "version": state.digest.version,
            "digest": str(state.digest),
            "providers": state.providers,
            "passed_over": state.passed_over,
        }
        return json_response(200 if state.ready else 503, document, () if state.ready else _RETRY)

    async def _metrics(self, _exchange: Exchange) -> Response:
        page = (
            self._lifecycle.metrics.render()
            if self.gather is None
            else await self.gather("metrics")
        )
        return Response(200, page, content_type=metrics.CONTENT_TYPE.encode())

    async def _document(self, exchange: Exchange) -> Response:
        """Answer with the OpenAPI document; FastAPI is imported when somebody first asks."""
        async with self._documentation_lock:
            if self._documentation is None:
                assert self._routes is not None
                model, examples = self._routes.model, self._routes.examples
                tokens = self.tokens is not None

                def build() -> asgi.Application:
                    from slipway_runtime.server.openapi import application  # noqa: PLC0415

                    return application(model, examples, tokens=tokens)

                self._documentation = await asyncio.to_thread(build)
        return await asgi.call(self._documentation, exchange, _DOCUMENT)


async def _compressed(response: Response, accepted: bytes) -> Response:
    """Return an answer compressed in a way that the client accepts, if there is one."""
    encoding = acceptable(accepted)
    if not encoding:
        return response
    body = response.body
    parts = body if isinstance(body, tuple) else (body,)
    if response.size <= _WORTH_A_THREAD:
        body = deflate(encoding, parts)
    else:
        body = await asyncio.to_thread(deflate, encoding, parts)
    told = ((b"content-encoding", encoding), (b"vary", b"accept-encoding"))
    return response._replace(body=body, headers=(*response.headers, *told))

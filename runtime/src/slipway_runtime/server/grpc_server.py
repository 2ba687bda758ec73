"""The gRPC server: the Open Inference Protocol, grpc.health.v1 and reflection, on a second port.

Imported only where that port is on. gRPC has no types; what is used of it is behind `Any`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import grpc
from google.protobuf import json_format
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from slipway_runtime import __version__
from slipway_runtime.errors import (
    BadRequest,
    DeadlineExceeded,
    InvalidArguments,
    NotReady,
    NotSupported,
    QueueFull,
    RequestError,
    Unauthorized,
    UnknownResource,
)
from slipway_runtime.protocol import v2_info
from slipway_runtime.protocol.messages import POOL, SERVICE, message, methods
from slipway_runtime.server import request_ids
from slipway_runtime.server.access import Access, Certificate
from slipway_runtime.server.lifecycle import Lifecycle
from slipway_runtime.server.phases import Phases
from slipway_runtime.settings import ServeSettings

if TYPE_CHECKING:
    from slipway_runtime.server.access_log import AccessLog
    from slipway_runtime.server.service import Service
    from slipway_runtime.server.tracing import Tracing

Rpc: TypeAlias = Callable[[Any, Any], Awaitable[Any]]

logger = logging.getLogger(__name__)

_grpc: Final = cast("Any", grpc)
_health: Final = cast("Any", health)
_health_pb2: Final = cast("Any", health_pb2)
_reflection: Final = cast("Any", reflection)
_reflection_pb2: Final = cast("Any", reflection_pb2)

_CODES: Final[dict[type[RequestError], Any]] = {
    BadRequest: _grpc.StatusCode.INVALID_ARGUMENT,
    Unauthorized: _grpc.StatusCode.UNAUTHENTICATED,
    UnknownResource: _grpc.StatusCode.NOT_FOUND,
    NotSupported: _grpc.StatusCode.UNIMPLEMENTED,
    QueueFull: _grpc.StatusCode.RESOURCE_EXHAUSTED,
    NotReady: _grpc.StatusCode.UNAVAILABLE,
    DeadlineExceeded: _grpc.StatusCode.DEADLINE_EXCEEDED,
}
_UNLIMITED: Final = -1
_PUSHBACK: Final = "grpc-retry-pushback-ms"
# Of the inference that this task has answered last; each call is a task.
_trace_id: Final[ContextVar[str]] = ContextVar("trace_id", default="")


class GrpcServer:
    """The gRPC side of one server: it listens from the start, and serves after `install`.

    Where the port is ``shared`` other processes listen there too, and the kernel spreads
    connections over them.
    """

    def __init__(
        self,
        lifecycle: Lifecycle,
        settings: ServeSettings,
        access: Access,
        access_log: AccessLog | None = None,
        *,
        shared: bool = False,
    ) -> None:
        self._lifecycle = lifecycle
        self._access_log = access_log
        self._service: Service | None = None
        self.tracing: Tracing | None = None
        self._tokens = access.tokens
        self._credentials: Any = None
        if access.certificate is not None:
            self._credentials = _credentials(access)
        options = (
            ("grpc.max_receive_message_length", settings.max_body_bytes),
            ("grpc.max_send_message_length", _UNLIMITED),
            ("grpc.so_reuseport", int(shared)),
        )
        self._server = _grpc.aio.server(options=options)
        self._server.add_generic_rpc_handlers((self._handlers(),))
        self._health = _health.aio.HealthServicer()
        _add_to_pool(_health_pb2, _reflection_pb2)
        cast("Any", health_pb2_grpc).add_HealthServicer_to_server(self._health, self._server)
        names = (SERVICE, _health.SERVICE_NAME, _reflection.SERVICE_NAME)
        _reflection.enable_server_reflection(names, self._server, pool=POOL)

    async def start(self, host: str, port: int) -> None:
        """Begin to listen; port 0 takes any free one.

        Raises:
            InvalidArguments: the address cannot be had.
        """
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound = (
                self._server.add_insecure_port(address)
                if self._credentials is None
                else self._server.add_secure_port(address, self._credentials)
            )
        except RuntimeError as error:
            raise InvalidArguments(
                f"cannot listen on {host} port {port} (SLIPWAY_GRPC_PORT)"
            ) from error
        await self._tell_health(serving=False)
        await self._server.start()
        logger.info("gRPC listening on port %d", bound)

    async def install(self, service: Service) -> None:
        """Begin to serve a loaded model."""
        # They bring NumPy, which is there by now, and would have delayed the start.
        from slipway_runtime.protocol import v2, v2_grpc  # noqa: PLC0415

        self._check_model = v2.check_model
        self._decode = v2_grpc.decode
        self._service = service
        await self._tell_health(serving=True)

    async def drain(self) -> None:
        """Tell health checks that no new traffic should come; serve on."""
        await self._tell_health(serving=False)

    async def stop(self, seconds: float) -> None:
        """Take no new calls and finish what is in flight, for up to so many seconds."""
        await self._server.stop(seconds)

    async def _tell_health(self, *, serving: bool) -> None:
        status = _health_pb2.HealthCheckResponse
        value = status.SERVING if serving else status.NOT_SERVING
        for name in ("", SERVICE, self._lifecycle.name):
            await self._health.set(name, value)

    def _handlers(self) -> Any:
        table: dict[str, Rpc] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
            "RepositoryIndex": self._repository_index,
            "ModelInfer": self._infer,
        }
        handlers: dict[str, Any] = {}
        for method in methods():
            coders = {
                "request_deserializer": message(method.input_type.name).FromString,
                "response_serializer": message(method.output_type.name).SerializeToString,
            }
            if method.client_streaming:
                handlers[method.name] = _grpc.stream_stream_rpc_method_handler(
                    self._stream_infer, **coders
                )
            else:
                rpc = self._guarded(method.name, table.get(method.name, _not_offered))
                handlers[method.name] = _grpc.unary_unary_rpc_method_handler(rpc, **coders)
        return _grpc.method_handlers_generic_handler(SERVICE, handlers)

    def _guarded(self, name: str, rpc: Rpc) -> Rpc:
        """Return the method with its errors turned into status codes, and its calls logged."""
        digest = (("slipway-model-digest", str(self._lifecycle.digest)),)

        async def call(request: Any, context: Any) -> Any:
            started = time.perf_counter()
            context.set_trailing_metadata(digest)
            code, text, retry = _grpc.StatusCode.OK, "", ()
            answer = None
            try:
                self._check_token(context)
                answer = await rpc(request, context)
            except RequestError as error:
                code, text = _CODES.get(type(error), _grpc.StatusCode.INTERNAL), error.message
                if error.retry_after is not None:
                    retry = ((_PUSHBACK, str(error.retry_after * 1000)),)
            except asyncio.CancelledError:
                left = context.time_remaining()
                late = left is not None and left <= 0
                status = _grpc.StatusCode
                ended = status.DEADLINE_EXCEEDED if late else status.CANCELLED
                self._note(name, request, context, None, started, ended)
                raise
            except Exception:
                logger.exception("a defect in the answer to a call")
                code, text = _grpc.StatusCode.INTERNAL, "a defect of the runtime; its log has more"
            self._note(name, request, context, answer, started, code)
            if answer is None:
                await context.abort(code, text, (*digest, *retry))
            return answer

        return call

    def _note(
        self, name: str, request: Any, context: Any, answer: Any, started: float, code: Any
    ) -> None:
        """Log one call; its id is the metadata's x-request-id, or that of the message."""
        if self._access_log is None:
            return
        metadata: dict[str, object] = dict(context.invocation_metadata() or ())
        given = metadata.get("x-request-id") or getattr(request, "id", "")
        request_id = request_ids.clean(str(given).encode(errors="replace")) or request_ids.new()
        size = 0 if answer is None else answer.ByteSize()
        seconds = time.perf_counter() - started
        what = f"GRPC /{SERVICE}/{name} {code.name}"
        trace_id = _trace_id.get()
        more = {"trace_id": trace_id} if trace_id else {}
        self._access_log.note(what, request_id.decode(), size, seconds, more)

    def _check_token(self, context: Any) -> None:
        if self._tokens is not None:
            metadata: dict[str, object] = dict(context.invocation_metadata() or ())
            self._tokens.check(cast("str | None", metadata.get("authorization")))

    def _loaded(self, name: str | None = None, version: str = "") -> Service:
        """Return the service of the model of that name.

        Raises:
            NotReady: it is not loaded yet.
            UnknownResource: it is another.
        """
        if self._service is None:
            raise NotReady(f"the model is not ready yet: {self._lifecycle.phase}")
        if name is not None:
            self._check_model(self._service.model.identity, name, version)
        return self._service

    async def _server_live(self, _request: Any, _context: Any) -> Any:
        return message("ServerLiveResponse")(live=True)

    async def _server_ready(self, _request: Any, _context: Any) -> Any:
        return message("ServerReadyResponse")(ready=self._lifecycle.ready)

    async def _model_ready(self, request: Any, _context: Any) -> Any:
        if self._service is not None:
            self._loaded(request.name, request.version)
        return message("ModelReadyResponse")(ready=self._lifecycle.ready)

    async def _server_metadata(self, _request: Any, _context: Any) -> Any:
        return message("ServerMetadataResponse")(
            name="slipway-runtime", version=__version__, extensions=v2_info.EXTENSIONS
        )

    async def _model_metadata(self, request: Any, _context: Any) -> Any:
        service = self._loaded(request.name, request.version)
        return _filled("ModelMetadataResponse", v2_info.metadata(service.model))

    async def _model_config(self, request: Any, _context: Any) -> Any:
        service = self._loaded(request.name, request.version)
        config = v2_info.config(service.model, service.max_batch_size)
        return _filled("ModelConfigResponse", {"config": config})

    async def _model_statistics(self, request: Any, _context: Any) -> Any:
        service = self._loaded(request.name or None, request.version)
        return _filled("ModelStatisticsResponse", await service.statistics())

    async def _repository_index(self, _request: Any, _context: Any) -> Any:
        service = self._loaded()
        index = v2_info.index(service.model, ready=self._lifecycle.ready)
        return _filled("RepositoryIndexResponse", {"models": index})

    async def _infer(self, request: Any, context: Any) -> Any:
        # A deadline or a cancellation of the client cancels this coroutine.
        started = time.perf_counter()
        service = self._loaded()
        if self.tracing is None:
            return await service.answer(lambda model: self._decode(request, model), started)
        phases = Phases()
        try:
            return await service.answer(
                lambda model: self._decode(request, model), started, phases=phases
            )
        finally:
            carrier = {
                str(name): value
                for name, value in context.invocation_metadata() or ()
                if isinstance(value, str)
            }
            ended = time.perf_counter()
            attributes = {"rpc.system": "grpc", "rpc.service": SERVICE, "rpc.method": "ModelInfer"}
            name = f"{SERVICE}/ModelInfer"
            _trace_id.set(self.tracing.record(name, started, ended, attributes, carrier, phases))

    async def _stream_infer(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        """Answer each request of a stream in its order; one that fails does not end the stream."""
        response = message("ModelStreamInferResponse")
        name, codes = "ModelStreamInfer", _grpc.StatusCode
        started = time.perf_counter()
        try:
            self._check_token(context)
        except Unauthorized as error:
            self._note(name, None, context, None, started, _CODES[Unauthorized])
            await context.abort(_CODES[Unauthorized], error.message)
        async for request in requests:
            started, code = time.perf_counter(), codes.OK
            try:
                answer = response(infer_response=await self._infer(request, context))
            except RequestError as error:
                code = _CODES.get(type(error), codes.INTERNAL)
                answer = response(error_message=error.message)
            except BaseException as error:
                gone = isinstance(error, asyncio.CancelledError)
                ended = codes.CANCELLED if gone else codes.INTERNAL
                self._note(name, request, context, None, started, ended)
                raise
            self._note(name, request, context, answer, started, code)
            yield answer


async def _not_offered(_request: Any, _context: Any) -> Any:
    raise NotSupported(
        "this server does not offer it: the model is pinned by its digest, settings are variables"
        " of the environment, and clients share no memory with the server"
    )


def _credentials(access: Access) -> Any:
    """Return TLS credentials with the certificate that is known as each connection begins."""
    known: Certificate | None = None

    def configuration() -> Any:
        nonlocal known
        known = access.certificate
        assert known is not None
        return _grpc.ssl_server_certificate_configuration([(known.key, known.chain)])

    def changed() -> Any:
        return None if access.certificate is known else configuration()

    return _grpc.dynamic_ssl_server_credentials(configuration(), changed)


def _filled(name: str, document: dict[str, object]) -> Any:
    """Return a message with the members of a JSON document."""
    return json_format.ParseDict(document, message(name)())


def _add_to_pool(*modules: Any) -> None:
    """Let reflection describe services of other packages too."""
    for module in modules:
        POOL.AddSerializedFile(module.DESCRIPTOR.serialized_pb)

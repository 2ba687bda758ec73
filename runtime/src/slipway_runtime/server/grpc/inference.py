"""The Open Inference Protocol's service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from google.protobuf import json_format

from slipway_runtime import __version__
from slipway_runtime.errors import NotReady, NotSupported, RequestError, UnknownResource
from slipway_runtime.protocol import v2_info
from slipway_runtime.protocol.messages import INFERENCE, message, methods
from slipway_runtime.server.grpc import status
from slipway_runtime.server.grpc.call import Call, Method, StreamCall
from slipway_runtime.server.grpc.status import Code
from slipway_runtime.server.lifecycle import Lifecycle
from slipway_runtime.server.phases import Phases

if TYPE_CHECKING:
    from slipway_runtime.server.service import Service
    from slipway_runtime.server.tracing import Tracing

Note = Callable[[Call, str, Any, float, Code], None]

_SPAN: Final = f"{INFERENCE}/ModelInfer"
_ATTRIBUTES: Final = {
    "rpc.system": "grpc",
    "rpc.service": INFERENCE,
    "rpc.method": "ModelInfer",
}


class InferenceService:
    """The methods; before `install` there is no model. ``note`` logs a message of a stream."""

    def __init__(self, lifecycle: Lifecycle, note: Note) -> None:
        self._lifecycle = lifecycle
        self._note = note
        self._service: Service | None = None
        self.tracing: Tracing | None = None

    def install(self, service: Service) -> None:
        """Begin to serve a loaded model."""
        # They bring NumPy, which is there by now, and would have delayed the start.
        from slipway_runtime.protocol import v2, v2_grpc  # noqa: PLC0415

        self._check_model = v2.check_model
        self._decode = v2_grpc.decode
        self._service = service

    def methods(self) -> list[Method]:
        """Return what the service offers, and what it refuses with a sentence."""
        table: dict[str, Callable[..., Awaitable[Any]]] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
            "RepositoryIndex": self._repository_index,
            "ModelInfer": self._infer,
            "ModelStreamInfer": self._stream_infer,
        }
        return [
            Method(
                f"/{INFERENCE}/{method.name}",
                table.get(method.name, _not_offered),
                message(method.input_type.name),
                streams=method.client_streaming,
            )
            for method in methods(INFERENCE)
        ]

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

    async def _server_live(self, _request: Any, _call: Call) -> Any:
        return message("ServerLiveResponse")(live=True)

    async def _server_ready(self, _request: Any, _call: Call) -> Any:
        return message("ServerReadyResponse")(ready=self._lifecycle.ready)

    async def _model_ready(self, request: Any, _call: Call) -> Any:
        ready = self._lifecycle.ready
        if self._service is not None:
            # As Triton does, which polling clients rely on: who is not there is not ready.
            try:
                self._loaded(request.name, request.version)
            except UnknownResource:
                ready = False
        return message("ModelReadyResponse")(ready=ready)

    async def _server_metadata(self, _request: Any, _call: Call) -> Any:
        return message("ServerMetadataResponse")(
            name="slipway-runtime", version=__version__, extensions=v2_info.EXTENSIONS
        )

    async def _model_metadata(self, request: Any, _call: Call) -> Any:
        service = self._loaded(request.name, request.version)
        return _filled("ModelMetadataResponse", v2_info.metadata(service.model))

    async def _model_config(self, request: Any, _call: Call) -> Any:
        service = self._loaded(request.name, request.version)
        config = v2_info.config(service.model, service.max_batch_size)
        return _filled("ModelConfigResponse", {"config": config})

    async def _model_statistics(self, request: Any, _call: Call) -> Any:
        service = self._loaded(request.name or None, request.version)
        return _filled("ModelStatisticsResponse", await service.statistics())

    async def _repository_index(self, request: Any, _call: Call) -> Any:
        service = self._loaded()
        index = v2_info.index(
            service.model, unready=self._lifecycle.unready, only_ready=request.ready
        )
        return _filled("RepositoryIndexResponse", {"models": index})

    async def _infer(self, request: Any, call: Call) -> Any:
        started = time.perf_counter()
        # A later message of a stream has not waited with the first.
        waited, call.waited = call.waited, 0.0
        service = self._loaded()
        decode = partial(self._decode, request)
        del request
        if self.tracing is None:
            answering = service.answer(
                decode, started, call.when_lost, size=call.message_bytes, waited=waited
            )
            del decode
            return await answering
        phases = Phases()
        carrier = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in call.metadata.items()
        }
        # The line of a call that ends early is written before its span is.
        call.trace_id = self.tracing.callers(carrier)
        try:
            return await service.answer(
                decode, started, call.when_lost, phases, call.message_bytes, waited
            )
        finally:
            ended = time.perf_counter()
            call.trace_id = self.tracing.record(
                _SPAN, started - waited, ended, _ATTRIBUTES, carrier, phases
            )

    async def _stream_infer(self, call: StreamCall) -> None:
        """Answer each request of a stream in its order; one that fails does not end the stream."""
        response = message("ModelStreamInferResponse")
        async for request in call.messages():
            started, code = time.perf_counter(), Code.OK
            request_id, answer = request.id, None
            answering = self._infer(request, call)
            # They may be large, and the next message may be long in coming.
            del request
            try:
                answer = response(infer_response=await answering)
            except RequestError as error:
                code = status.code_of(error)
                told = message("ModelInferResponse")(id=request_id)
                answer = response(error_message=error.message, infer_response=told)
            except BaseException as error:
                gone = isinstance(error, asyncio.CancelledError)
                code = Code.CANCELLED if gone else Code.INTERNAL
                raise
            finally:
                self._note(call, request_id, answer, time.perf_counter() - started, code)
            await call.send(answer)
            del answer, answering


async def _not_offered(_request: Any, _call: Call) -> Any:
    raise NotSupported(
        "this server does not offer it: the model is pinned by its digest, settings are variables"
        " of the environment, and clients share no memory with the server"
    )


def _filled(name: str, document: dict[str, object]) -> Any:
    """Return a message with the members of a JSON document."""
    return json_format.ParseDict(document, message(name)())

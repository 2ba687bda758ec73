"""The routes of a loaded model. Imported by the loader, since it brings NumPy and the session."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias, TypeVar

from slipway_runtime.errors import RequestError, UnknownResource
from slipway_runtime.inference.executor import Executor
from slipway_runtime.inference.model import Model
from slipway_runtime.inference.tensors import Array
from slipway_runtime.metrics import Metrics
from slipway_runtime.protocol import predict, v2
from slipway_runtime.protocol.request import InferRequest
from slipway_runtime.server.http import Exchange, Response, json_response, require_json

Handler: TypeAlias = Callable[[Exchange], Awaitable[Response]]

R = TypeVar("R")

_MICROSECONDS = 1e6
_MODEL_PARTS = 4


class ModelRoutes:
    """Infer, predict and metadata of one model."""

    def __init__(
        self, model: Model, executor: Executor, metrics: Metrics, *, max_body_bytes: int
    ) -> None:
        self.model = model
        self._executor = executor
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        metrics.pending = lambda: executor.pending

    @property
    def in_flight(self) -> int:
        """How many requests wait for the model or run."""
        return self._executor.submitted

    def table(self) -> dict[str, Mapping[str, Handler]]:
        """Return the handlers by path and method."""
        identity = self.model.identity
        base = f"/v2/models/{identity.name}"
        bases = (base, *(f"{base}/versions/{v}" for v in (identity.version, "1", "")))
        table: dict[str, Mapping[str, Handler]] = {"/predict": {"POST": self.predict}}
        for path in bases:
            table[f"{path}/infer"] = {"POST": self.infer}
            table[path.rstrip("/")] = {"GET": self.metadata}
        return table

    def unknown(self, path: str) -> UnknownResource:
        """Return the error for a path that no route has: names the model if that is wrong."""
        parts = path.strip("/").split("/")
        if parts[:2] == ["v2", "models"] and len(parts) > 2:  # noqa: PLR2004
            version = parts[4] if len(parts) > _MODEL_PARTS and parts[3] == "versions" else None
            try:
                v2.check_model(self.model.identity, parts[2], version)
            except UnknownResource as error:
                return error
        return UnknownResource(f"there is no route {path[:200]!r}; /docs lists them")

    async def metadata(self, _exchange: Exchange) -> Response:
        """GET /v2/models/{model}."""
        return json_response(200, v2.model_metadata(self.model))

    async def infer(self, exchange: Exchange) -> Response:
        """POST /v2/models/{model}/infer."""
        return await self._infer(exchange, v2.decode, v2.encode, _itself)

    async def predict(self, exchange: Exchange) -> Response:
        """POST /predict."""
        return await self._infer(exchange, predict.decode, predict.encode, _of_predict)

    async def _infer(
        self,
        exchange: Exchange,
        decode: Callable[[Model, bytes], R],
        encode: Callable[[Model, R, dict[str, Array]], bytes],
        core: Callable[[R], InferRequest],
    ) -> Response:
        metrics = self._metrics
        try:
            require_json(exchange)
            body = await exchange.body(self._max_body_bytes)
            started = time.perf_counter()
            request = decode(self.model, body)
            inner = core(request)
            decoded = time.perf_counter()
            execution = await self._executor.infer(inner.inputs, inner.outputs)
            executed = time.perf_counter()
            answer = encode(self.model, request, execution.outputs)
        except RequestError:
            metrics.request_failure += 1
            raise
        ended = time.perf_counter()
        metrics.request_success += 1
        metrics.exec_count += 1
        metrics.inference_count += self.model.batch_size(inner.inputs)
        metrics.request_us += (ended - started) * _MICROSECONDS
        metrics.input_us += (decoded - started) * _MICROSECONDS
        metrics.queue_us += execution.queued * _MICROSECONDS
        metrics.infer_us += execution.ran * _MICROSECONDS
        metrics.output_us += (ended - executed) * _MICROSECONDS
        metrics.duration.observe(ended - started)
        return Response(200, answer)


def _itself(request: InferRequest) -> InferRequest:
    return request


def _of_predict(request: predict.PredictRequest) -> InferRequest:
    return request.infer

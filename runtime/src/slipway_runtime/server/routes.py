"""The routes of a loaded model. Imported by the loader, since it brings NumPy and the session."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from slipway_runtime.errors import (
    AbandonedError,
    NotSupported,
    RequestError,
    UnknownResource,
)
from slipway_runtime.inference.tensors import Array
from slipway_runtime.protocol import examples, mlflow, predict, tfserving, v2, v2_info
from slipway_runtime.protocol.request import BINARY, Body, Decode
from slipway_runtime.server.http import (
    ClientGoneError,
    Exchange,
    Response,
    json_response,
    require_kind,
)
from slipway_runtime.server.profiling import Profiling
from slipway_runtime.server.service import Service
from slipway_runtime.settings import ServeSettings

Handler: TypeAlias = Callable[[Exchange], Awaitable[Response]]

_MODEL_PARTS = 4


class ModelRoutes:
    """Infer, predict and what can be asked about one model.

    ``unready`` tells why no traffic should come, None where it should; ``sample`` has the
    arrays of a golden sample by input name, if there is one.
    """

    def __init__(
        self,
        service: Service,
        settings: ServeSettings,
        unready: Callable[[], str | None] = lambda: None,
        sample: Mapping[str, Array] | None = None,
    ) -> None:
        self.service = service
        self.model = service.model
        self.examples = examples.of_model(self.model, sample)
        self.run_seconds = 0.0  # one run of one request, where it was measured
        self._unready = unready
        self._max_body_bytes = settings.max_body_bytes
        self._profiling = Profiling(self.model, allowed=settings.profiling)

    def table(self) -> dict[str, Mapping[str, Handler]]:
        """Return the handlers by path and method."""
        identity = self.model.identity
        table: dict[str, Mapping[str, Handler]] = {
            "/predict": {"POST": self._inference(predict.decode)},
            "/invocations": {"POST": self._inference(mlflow.decode, mlflow.CSV)},
            "/example.json": {"GET": self._example},
            "/v2/models/stats": {"GET": self._statistics},
            "/v2/repository/index": {"POST": self._index},
            "/debug/profile": {"POST": self._profiling.answer},
        }
        infer = self._inference(v2.decode, BINARY)
        tensorflow = self._inference(tfserving.decode)
        for name in identity.names:
            base = f"/v2/models/{name}"
            for version in ("", *(f"/versions/{v}" for v in (identity.version, "1", ""))):
                path = f"{base}{version}"
                table[f"{path}/infer"] = {"POST": infer}
                table[f"{path}/config"] = {"GET": self._config}
                table[f"{path}/stats"] = {"GET": self._statistics}
                table[path.rstrip("/")] = {"GET": self._metadata}
            for version in ("", *(f"/versions/{v}" for v in (identity.version, "1"))):
                path = f"/v1/models/{name}{version}"
                table[path] = {"GET": self._tensorflow_status}
                table[f"{path}:predict"] = {"POST": tensorflow}
        return table

    def unknown(self, path: str) -> RequestError:
        """Return the error for a path that no route has: says what of it is wrong."""
        left_out = v2_info.left_out(path)
        if left_out is not None:
            return left_out
        if path.startswith("/v1/models/") and path.endswith((":classify", ":regress")):
            return NotSupported("an ONNX model has no classify or regress signature: use :predict")
        parts = path.strip("/").partition(":")[0].split("/")
        if parts[0] in ("v1", "v2") and parts[1:2] == ["models"] and len(parts) > 2:  # noqa: PLR2004
            version = parts[4] if len(parts) > _MODEL_PARTS and parts[3] == "versions" else None
            try:
                v2.check_model(self.model.identity, parts[2], version)
            except UnknownResource as error:
                return error
        return UnknownResource(f"there is no route {path[:200]!r}; /docs lists them")

    async def _metadata(self, _exchange: Exchange) -> Response:
        return json_response(200, v2_info.metadata(self.model))

    async def _example(self, _exchange: Exchange) -> Response:
        shown = b"" if self.examples is None else examples.to_look_at(self.examples)
        return Response(200, shown)

    async def _tensorflow_status(self, _exchange: Exchange) -> Response:
        return json_response(
            200, tfserving.status(self.model.identity, ready=self._unready() is None)
        )

    async def _config(self, _exchange: Exchange) -> Response:
        return json_response(200, v2_info.config(self.model, self.service.max_batch_size))

    async def _statistics(self, _exchange: Exchange) -> Response:
        return json_response(200, await self.service.statistics())

    async def _index(self, exchange: Exchange) -> Response:
        only_ready = v2.only_ready(await exchange.body(self._max_body_bytes))
        index = v2_info.index(self.model, unready=self._unready(), only_ready=only_ready)
        return json_response(200, index)

    def _inference(self, decode: Decode, *kinds: bytes) -> Handler:
        """Return the handler of one protocol; its bodies are JSON or of one of ``kinds``."""

        async def handle(exchange: Exchange) -> Response:
            started = time.perf_counter()
            try:
                require_kind(exchange, *kinds)
                header_length = exchange.header_length
                content = await exchange.body(self._max_body_bytes)
            except RequestError:
                self.service.failed(started)
                raise
            started = time.perf_counter()
            body = Body(content, exchange.media_type, header_length)
            try:
                payload = await self.service.answer(
                    lambda model: decode(model, body),
                    started,
                    exchange.when_lost,
                    exchange.phases,
                    len(content),
                    exchange.waited,
                )
            except AbandonedError:
                raise ClientGoneError from None
            return Response(200, payload.parts, payload.content_type, payload.headers)

        return handle

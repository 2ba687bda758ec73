"""The application of one model in this process: everything but the socket."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipway_runtime.artifact.digest import Digest
from slipway_runtime.inference import model as models
from slipway_runtime.inference.executor import Executor
from slipway_runtime.inference.timing import Predictor
from slipway_runtime.metrics import Metrics
from slipway_runtime.server.app import App
from slipway_runtime.server.http import Exchange
from slipway_runtime.server.intake import Intake
from slipway_runtime.server.lifecycle import Lifecycle, Phase
from slipway_runtime.server.routes import ModelRoutes
from slipway_runtime.server.service import Service
from slipway_runtime.settings import ServeSettings

from .process import Reply

DIGEST = Digest("0" * 64)


class _AlwaysShort(Predictor):
    """Every run happens on the event loop, so that no thread is left behind."""

    def predict(self, key: Any, rows: int) -> float | None:
        return 0.0


class _Nobody:
    """The connection of a request that is complete from the beginning."""

    intake = Intake(1 << 40)

    def send_continue(self) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class InProcess:
    """A model, loaded and served as `m`; it was not warmed up."""

    def __init__(self, path: Path, metrics: Metrics | None = None) -> None:
        self.model = models.load(
            models.ModelIdentity("m", DIGEST),
            path,
            ["CPUExecutionProvider"],
            intra_op_threads=1,
            inter_op_threads=1,
        )
        self.settings = ServeSettings()
        self.metrics = metrics or Metrics("m", DIGEST.version, str(DIGEST))
        executor = Executor(self.model, inline_seconds=1.0, predictor=_AlwaysShort())
        self.service = Service(self.model, executor, self.metrics, self.settings)
        lifecycle = Lifecycle("m", DIGEST, self.metrics)
        lifecycle.phase = Phase.READY
        self.app = App(lifecycle)
        self.app.install(ModelRoutes(self.service, self.settings))

    async def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Reply:
        pairs = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        pairs.append((b"content-length", b"%d" % len(body)))
        path, _, query = path.partition("?")
        exchange = Exchange(method, path, query.encode(), pairs, _Nobody())
        exchange.feed(body)
        exchange.end()
        response = await self.app.answer(exchange)
        parts = response.body if isinstance(response.body, tuple) else (response.body,)
        told = {name.decode(): value.decode() for name, value in response.headers}
        told["content-type"] = response.content_type.decode()
        return Reply(response.status, told, b"".join(parts))

    async def infer(self, document: Mapping[str, Any]) -> Reply:
        return await self.request("POST", "/v2/models/m/infer", json.dumps(document).encode())

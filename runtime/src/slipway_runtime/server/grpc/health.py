"""The standard health service: of the server as a whole, of its services, of the model."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from slipway_runtime.errors import UnknownResource
from slipway_runtime.protocol.messages import HEALTH, message
from slipway_runtime.server.grpc.call import Call, Method, StreamCall

_PACKAGE: Final = "grpc.health.v1"


class HealthService:
    """Reports the same for all ``names``: whether the server is ready."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._response = message("HealthCheckResponse", _PACKAGE)
        self._serving = False
        self._changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def tell(self, *, serving: bool) -> None:
        """Change the reported status, also for open Watch calls."""
        self._serving = serving
        changed = self._changed
        self._changed = asyncio.get_running_loop().create_future()
        changed.set_result(None)

    def methods(self) -> list[Method]:
        """Return what the service offers."""
        check = message("HealthCheckRequest", _PACKAGE)
        return [
            Method(f"/{HEALTH}/Check", self._check, check),
            Method(f"/{HEALTH}/Watch", self._watch, check, streams=True),
            Method(f"/{HEALTH}/List", self._list, message("HealthListRequest", _PACKAGE)),
        ]

    def _status(self, name: str) -> Any:
        kind = self._response
        if name not in self._names:
            return kind(status=kind.SERVICE_UNKNOWN)
        return kind(status=kind.SERVING if self._serving else kind.NOT_SERVING)

    async def _check(self, request: Any, _call: Call) -> Any:
        if request.service not in self._names:
            raise UnknownResource(f"no service {request.service[:100]!r} here")
        return self._status(request.service)

    async def _list(self, _request: Any, _call: Call) -> Any:
        statuses = {name: self._status(name) for name in self._names}
        return message("HealthListResponse", _PACKAGE)(statuses=statuses)

    async def _watch(self, call: StreamCall) -> None:
        async for request in call.messages():
            told = None
            while True:
                changed, status = self._changed, self._status(request.service)
                if status != told:
                    told = status
                    await call.send(status)
                await call.idle(asyncio.shield(changed))

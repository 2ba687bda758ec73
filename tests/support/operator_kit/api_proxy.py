"""An API server's front that misbehaves on demand: between one operator and the real one.

It stops a process at a chosen request from outside, so that nothing in the product needs to know of
tests; and it does to watches what load balancers and firewalls do.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web

from slipway_dev import state as states

_HOP_BY_HOP = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}
_LONG = 10_000.0
_EXPIRED = {
    "type": "ERROR",
    "object": {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": "Expired",
        "code": 410,
        "message": "too old resource version",
    },
}


@dataclass(frozen=True)
class Call:
    """One request of the operator, as its path says it.

    Attributes:
        verb: create, apply, merge, replace, delete, get or watch.
        resource: the plural, with the subresource if there is one: ``modeldeployments/status``.
    """

    verb: str
    resource: str

    @classmethod
    def of(cls, request: web.Request) -> Call:
        """Read /api/v1/… or /apis/GROUP/VERSION/… ."""
        parts = request.path.strip("/").split("/")
        rest = parts[2:] if parts[0] == "api" else parts[3:]
        if rest[:1] == ["namespaces"] and len(rest) > 2:
            rest = rest[2:]
        verb = _VERBS.get(request.method, "")
        if request.method == "PATCH":
            verb = "apply" if "apply-patch" in request.content_type else "merge"
        if request.query.get("watch") == "true":
            verb = "watch"
        return cls(verb, "/".join([*rest[:1], *rest[2:3]]))


_VERBS = {"GET": "get", "POST": "create", "PUT": "replace", "DELETE": "delete"}


class Held:
    """A request that is held until it is let go: the operator waits for its answer."""

    def __init__(self, call: Call, containing: str, *, answer: bool) -> None:
        self.answer = answer
        self._call = call
        self._containing = containing.encode()
        self._there = threading.Event()
        self._go = threading.Event()
        self._status: int | None = None

    def meets(self, call: Call, body: bytes) -> bool:
        """Whether it waits for this request."""
        return not self._there.is_set() and call == self._call and self._containing in body

    async def pause(self) -> None:
        """The request is in the proxy's hands, until it is let go."""
        self._there.set()
        while not self._go.is_set():  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.02)

    def wait(self, within: float = 20.0) -> None:
        """Wait until the operator has sent it."""
        assert self._there.wait(within), f"the operator never sent {self._call}"

    def let_go(self) -> None:
        """Let it, or its answer, go on."""
        self._go.set()

    def answered(self, status: int) -> None:
        """The API server has answered."""
        self._status = status

    def status(self) -> int:
        """The status code of the API server's answer."""
        assert self._status is not None, f"{self._call} is not answered yet"
        return self._status


class ApiProxy:
    """Plain HTTP on loopback, to the API server of a cluster by TLS; the credential passes through.

    One background thread runs it; the methods are for the test's own.
    """

    def __init__(self, cluster: str) -> None:
        state = states.load(cluster)
        assert state is not None
        self._upstream = f"https://127.0.0.1:{state.ports['apiserver']}"
        self._trust = ssl.create_default_context(cafile=str(state.authority))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._held: list[Held] = []
        self._open: list[tuple[Call, web.Request]] = []
        self._stalled: set[asyncio.Transport] = set()
        self._forgotten: set[str] = set()
        self._gap_is_over = asyncio.Event()
        self.url = ""

    # ---- for tests ----

    def start(self) -> ApiProxy:
        """Listen."""
        self._thread.start()
        self._do(self._start())
        return self

    def stop(self) -> None:
        """Cut every connection."""
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def hold(self, request: str, containing: str = "", *, answer: bool = False) -> Held:
        """Hold the next such request, or its answer.

        Args:
            request: verb and resource, as ``apply deployments``.
            containing: what its body must contain.
            answer: the API server gets the request, and the operator no answer.
        """
        verb, _, resource = request.partition(" ")
        held = Held(Call(verb, resource), containing, answer=answer)
        self._held.append(held)
        return held

    def watches(self) -> int:
        """How many watches go through it now."""
        return sum(call.verb == "watch" for call, _ in list(self._open))

    def cut_watches(self) -> None:
        """Break every watch's connection."""

        async def cut() -> None:
            for call, request in list(self._open):
                if call.verb == "watch" and request.transport is not None:
                    request.transport.abort()

        self._do(cut())

    @contextlib.contextmanager
    def gap(self) -> Iterator[None]:
        """Cut every watch; afterwards the API server has forgotten what was in between: 410."""
        self._gap_is_over.clear()
        self._forgotten = {request.path for call, request in self._open if call.verb == "watch"}
        self.cut_watches()
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self._gap_is_over.set)

    def stall(self) -> None:
        """Let nothing more through on any connection that there is, and close none of them."""

        async def stall() -> None:
            assert self._runner.server is not None
            for connection in self._runner.server.connections:
                if connection.transport is not None:
                    self._stalled.add(connection.transport)  # type: ignore[arg-type]
                    connection.transport.pause_reading()  # type: ignore[attr-defined]

        self._do(stall())

    # ---- inside ----

    def _do(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _start(self) -> None:
        connector = aiohttp.TCPConnector(ssl=self._trust, limit=0)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
        )
        app = web.Application(client_max_size=16 * 2**20)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        (address,) = self._runner.addresses
        self.url = f"http://127.0.0.1:{address[1]}"

    async def _stop(self) -> None:
        await self._session.close()
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        call = Call.of(request)
        body = await request.read()
        entry = (call, request)
        self._open.append(entry)
        try:
            if call.verb == "watch" and request.path in self._forgotten:
                self._forgotten.discard(request.path)
                await self._gap_is_over.wait()
                return web.json_response(_EXPIRED)
            held = next((h for h in self._held if h.meets(call, body)), None)
            forwarding = self._forward(request, body, held)
            # What is held arrives once it is let go, also when its sender has gone meanwhile.
            return await (forwarding if held is None else asyncio.shield(forwarding))
        finally:
            self._open.remove(entry)

    async def _forward(
        self, request: web.Request, body: bytes, held: Held | None
    ) -> web.StreamResponse:
        if held is not None and not held.answer:
            await held.pause()
        async with self._session.request(
            request.method,
            self._upstream + request.raw_path,
            headers=_passed_on(request.headers),
            data=body or None,
        ) as answer:
            if held is not None:
                await answer.read()
                if held.answer:
                    await held.pause()
                held.answered(answer.status)
            response = web.StreamResponse(status=answer.status, headers=_passed_on(answer.headers))
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await self._unless_stalled(request)
                await response.write(chunk)
            await self._unless_stalled(request)
            await response.write_eof()
            return response

    async def _unless_stalled(self, request: web.Request) -> None:
        if request.transport in self._stalled:
            await asyncio.sleep(_LONG)


def _passed_on(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP}

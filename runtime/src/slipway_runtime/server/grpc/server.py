"""The gRPC side of one server: it takes calls from the start, and answers them after `install`."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from slipway_runtime.metrics import Metrics
from slipway_runtime.protocol.messages import INFERENCE
from slipway_runtime.server import request_ids
from slipway_runtime.server.access import Access
from slipway_runtime.server.connections import Connections, Handshake
from slipway_runtime.server.grpc import reflection, status
from slipway_runtime.server.grpc.call import Call, Method
from slipway_runtime.server.grpc.connection import GrpcConnection
from slipway_runtime.server.grpc.health import HealthService
from slipway_runtime.server.grpc.inference import InferenceService
from slipway_runtime.server.grpc.status import Code, Fields
from slipway_runtime.server.http_server import HttpServer
from slipway_runtime.server.intake import SMALL_BYTES, Intake
from slipway_runtime.server.lifecycle import Lifecycle
from slipway_runtime.settings import ServeSettings

if TYPE_CHECKING:
    from slipway_runtime.server.access_log import AccessLog
    from slipway_runtime.server.service import Service
    from slipway_runtime.server.tracing import Tracing

# What needs a token, and has lines in the log; health and reflection are open, as probes are.
_GUARDED: Final = f"/{INFERENCE}/"
# So little is not counted: who has no token takes no memory from those who have.
_OPEN_LIMIT: Final = SMALL_BYTES


class GrpcServer:
    """Answers calls; where its connections come from is the business of ``http``."""

    def __init__(
        self,
        lifecycle: Lifecycle,
        settings: ServeSettings,
        metrics: Metrics,
        access: Access,
        access_log: AccessLog | None = None,
        on_closed: Callable[[], object] | None = None,
    ) -> None:
        self._tokens = access.tokens
        self._access_log = access_log
        self._limit = settings.max_body_bytes
        digest = str(lifecycle.digest).encode()
        self.told_always: Fields = ((b"slipway-model-digest", digest),)
        self.trailers_ok = status.trailers(Code.OK, "", self.told_always)
        self._health = HealthService(("", INFERENCE, lifecycle.name))
        self._inference = InferenceService(lifecycle, self.note)
        services = (self._inference, self._health, reflection)
        methods = {
            method.name.encode(): method for service in services for method in service.methods()
        }

        def make(connections: Connections, before: Handshake | None) -> GrpcConnection:
            return GrpcConnection(methods, self, connections, before)

        tls: Callable[[], ssl.SSLContext] | None = None
        if access.certificate is not None:
            tls = access.context_for_http2
        self.http = HttpServer(make, settings, metrics, tls, on_closed)

    @property
    def tracing(self) -> Tracing | None:
        """What takes the spans, if they have somewhere to go."""
        return self._inference.tracing

    @tracing.setter
    def tracing(self, tracing: Tracing | None) -> None:
        self._inference.tracing = tracing

    def install(self, service: Service) -> None:
        """Begin to serve a loaded model."""
        self._inference.install(service)
        self._health.tell(serving=True)

    def drain(self) -> None:
        """Tell health checks that no new traffic should come; serve on."""
        self._health.tell(serving=False)

    # The terms of calls.

    @property
    def intake(self) -> Intake:
        """What counts the messages of all calls, and the bodies of all requests."""
        return self.http.connections.intake

    def limit(self, method: Method) -> int:
        """Return the largest message that a method takes, in bytes."""
        guarded = method.name.startswith(_GUARDED)
        return self._limit if guarded else min(self._limit, _OPEN_LIMIT)

    def admit(self, call: Call) -> None:
        """Check the call's token.

        Raises:
            Unauthorized: it brings none, or an unknown one.
        """
        if self._tokens is not None and call.method.name.startswith(_GUARDED):
            self._tokens.check(call.metadatum(b"authorization"))

    def note(self, call: Call, request_id: str, answer: Any, seconds: float, code: Code) -> None:
        """Log an answer; its id is the metadata's x-request-id, or that of the message."""
        if self._access_log is None or not call.method.name.startswith(_GUARDED):
            return
        given = call.metadata.get(b"x-request-id") or request_id.encode()
        known_as = request_ids.clean(given) or request_ids.new()
        size = 0 if answer is None else answer.ByteSize()
        more = {"trace_id": call.trace_id} if call.trace_id else {}
        what = f"GRPC {call.method.name} {code.name}"
        self._access_log.note(what, known_as.decode(), size, seconds, more)

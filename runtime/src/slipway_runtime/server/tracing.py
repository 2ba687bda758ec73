"""OpenTelemetry traces: one span per request, one below it per phase, in the caller's trace.

Imported only where an OTLP endpoint is configured. Spans are made when a request has ended, from
the times that it has noted, so nothing is done for them on its way.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from slipway_runtime import __version__
from slipway_runtime.artifact.digest import Digest
from slipway_runtime.server.phases import Phases

_CONTEXT: Final = TraceContextTextMapPropagator()
_NANOSECONDS: Final = 1e9
_QUIET: Final = ("opentelemetry", "requests", "urllib3")


class Tracing:
    """Sends spans to the endpoint that the standard OTEL_* variables name."""

    def __init__(self, name: str, digest: Digest) -> None:
        # An endpoint that does not answer is worth a warning, not a trace of every attempt.
        for logger in _QUIET:
            logging.getLogger(logger).setLevel(logging.ERROR)
        if "service.name=" not in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
            os.environ.setdefault("OTEL_SERVICE_NAME", name)
        model = {"slipway.model.name": name, "slipway.model.digest": str(digest)}
        resource = Resource.create({"service.version": digest.version, **model})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer: Tracer = self._provider.get_tracer("slipway_runtime", __version__)
        self._epoch = time.time() - time.perf_counter()

    def callers(self, carrier: Mapping[str, str]) -> str:
        """Return the id of the caller's trace, or nothing if it sent none."""
        context = get_current_span(_CONTEXT.extract(carrier)).get_span_context()
        return f"{context.trace_id:032x}" if context.is_valid else ""

    def record(
        self,
        name: str,
        started: float,
        ended: float,
        attributes: Mapping[str, str | int],
        carrier: Mapping[str, str],
        phases: Phases,
    ) -> str:
        """Note a request that has ended, and return the id of its trace.

        Times are of `time.perf_counter`; ``carrier`` has the caller's traceparent, if it sent one.
        """
        span = self._tracer.start_span(
            name,
            context=_CONTEXT.extract(carrier),
            kind=SpanKind.SERVER,
            attributes=dict(attributes),
            start_time=self._time(started),
        )
        if span.is_recording():
            if not phases.ended:
                span.set_status(Status(StatusCode.ERROR))
            within = set_span_in_context(span)
            for phase, begun, done in phases.spans():
                below = self._tracer.start_span(phase, within, start_time=self._time(begun))
                below.end(self._time(done))
        span.end(self._time(ended))
        return f"{span.get_span_context().trace_id:032x}"

    def close(self, seconds: float) -> None:
        """Send what is left, for at most so many seconds; blocks."""
        # A daemon: the exporter tries again for longer than a process that ends may wait.
        last = threading.Thread(target=self._provider.shutdown, daemon=True)
        last.start()
        last.join(seconds)

    def _time(self, seconds: float) -> int:
        """Return nanoseconds since 1970 for a time of `time.perf_counter`."""
        return int((self._epoch + seconds) * _NANOSECONDS)

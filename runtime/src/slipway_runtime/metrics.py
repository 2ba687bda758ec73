"""Prometheus metrics: Triton's names where they exist, our own beside them.

Triton's counters have no ``_total``, which prometheus_client appends to every counter, so all that
is counted here is written here. What is known of the process comes from prometheus_client, which
takes a tenth of the time to start and is imported later, by `prepare` or for the first page.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_COUNTERS: Final[tuple[tuple[str, str], ...]] = (
    ("nv_inference_request_success", "Inference requests answered with their outputs"),
    ("nv_inference_request_failure", "Inference requests answered with an error"),
    ("nv_inference_count", "Inferences done; a batch of n counts n"),
    ("nv_inference_exec_count", "Executions of the model; a batch counts 1"),
    ("nv_inference_request_duration_us", "Time from body to answer, summed, in microseconds"),
    ("nv_inference_queue_duration_us", "Time waiting for an executor, summed, in microseconds"),
    ("nv_inference_compute_input_duration_us", "Time decoding inputs, summed, in microseconds"),
    ("nv_inference_compute_infer_duration_us", "Time in the model, summed, in microseconds"),
    ("nv_inference_compute_output_duration_us", "Time encoding outputs, summed, in microseconds"),
)
CLOSED_FOR: Final = ("handshake", "headers", "body", "answer", "room")
MAX_BATCH_SIZES: Final = 256
_BATCH_BUCKETS: Final = tuple(1 << power for power in range(11))
_BUCKETS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)


@dataclass
class Batch:
    """Executions of one batch size, and where their time went, in microseconds."""

    count: int = 0
    input_us: float = 0.0
    infer_us: float = 0.0
    output_us: float = 0.0


class Durations:
    """How many requests took how long; a histogram whose counting costs next to nothing."""

    def __init__(self) -> None:
        self.counts = [0] * (len(_BUCKETS) + 1)
        self.seconds = 0.0

    def observe(self, seconds: float) -> None:
        """Count one request."""
        self.counts[bisect_left(_BUCKETS, seconds)] += 1
        self.seconds += seconds

    def lines(self, name: str, labels: str) -> Iterable[str]:
        """Yield the samples; ``labels`` are those of the model, without braces."""
        for bound, count in zip((*_BUCKETS, "+Inf"), accumulate(self.counts), strict=True):
            yield f'{name}_bucket{{{labels},le="{bound}"}} {count}\n'
        yield f"{name}_count{{{labels}}} {sum(self.counts)}\n"
        yield f"{name}_sum{{{labels}}} {self.seconds}\n"


class Metrics:
    """All metrics of one server. Written from the event loop's thread alone.

    ``pending`` returns how many requests wait for an executor now, ``deferred`` how many are not
    begun yet, ``connections`` how many HTTP connections are open, ``body_bytes`` what large bodies
    take that are not answered yet.
    """

    def __init__(self, model: str, version: str, digest: str) -> None:
        self._model = f'model="{_escape(model)}",version="{_escape(version)}"'
        self._labels = f"{{{self._model}}}"
        self.pending: Callable[[], int] = lambda: 0
        self.deferred: Callable[[], int] = lambda: 0
        self.connections: Callable[[], int] = lambda: 0
        self.body_bytes: Callable[[], int] = lambda: 0
        self.request_success = 0
        self.request_failure = 0
        self.inference_count = 0
        self.exec_count = 0
        self.last_inference_ms = 0
        self.failure_us = 0.0
        self.batches: dict[int, Batch] = {}
        self.request_us = 0.0
        self.queue_us = 0.0
        self.input_us = 0.0
        self.infer_us = 0.0
        self.output_us = 0.0
        self.duration = Durations()
        self.responses: dict[int, int] = {}
        self.closed_connections: dict[str, int] = dict.fromkeys(CLOSED_FOR, 0)

        self.ready = False
        self._digest = _escape(digest)
        self._phases: dict[str, float] = {}
        self._providers: dict[str, float] = {}
        self._fetched: tuple[int, float] | None = None
        self._process: Callable[[], bytes] | None = None

    def loaded(self, phase: str, seconds: float) -> None:
        """Record how long one phase of loading took."""
        self._phases[phase] = seconds

    def runs_on(self, providers: Iterable[str], passed_over: Iterable[str]) -> None:
        """Record the session's execution providers, and the preferred ones that it lacks."""
        self._providers = dict.fromkeys(providers, 1.0) | dict.fromkeys(passed_over, 0.0)

    def fetched(self, size: int, seconds: float) -> None:
        """Record the last fetch of the artifact: its bytes, and how long it took."""
        self._fetched = (size, seconds)

    def executed(
        self, size: int, infer_us: float, input_us: float = 0.0, output_us: float = 0.0
    ) -> None:
        """Record one execution of the model on a batch, and what joining and cutting it took."""
        self.exec_count += 1
        self.inference_count += size
        self.last_inference_ms = int(time.time() * 1000)
        # Clients choose the sizes: what is counted by size must stay bounded.
        batch = self.batches.get(size)
        if batch is None:
            batch = Batch()
            if len(self.batches) < MAX_BATCH_SIZES:
                self.batches[size] = batch
        batch.count += 1
        batch.input_us += input_us
        batch.infer_us += infer_us
        batch.output_us += output_us

    def responded(self, status: int) -> None:
        """Count one HTTP response."""
        self.responses[status] = self.responses.get(status, 0) + 1

    def connection_closed(self, reason: str) -> None:
        """Count one connection that was closed on its client, for one of `CLOSED_FOR`."""
        self.closed_connections[reason] += 1

    def prepare(self) -> None:
        """Import what the first page needs; on a thread, so that the event loop need not wait."""
        self._process = self._process or _process_page()

    def render(self) -> bytes:
        """Return all metrics in the text exposition format."""
        process = self._process = self._process or _process_page()
        return "".join(self._lines()).encode() + process()

    def _lines(self) -> Iterable[str]:
        values = (
            self.request_success,
            self.request_failure,
            self.inference_count,
            self.exec_count,
            int(self.request_us),
            int(self.queue_us),
            int(self.input_us),
            int(self.infer_us),
            int(self.output_us),
        )
        for (name, help_text), value in zip(_COUNTERS, values, strict=True):
            yield from _family(name, help_text, "counter")
            yield f"{name}{self._labels} {value}\n"
        name = "nv_inference_pending_request_count"
        yield from _family(name, "Inference requests that wait", "gauge")
        yield f"{name}{self._labels} {self.pending() + self.deferred()}\n"
        yield from self._batch_sizes()
        name = "slipway_request_duration_seconds"
        yield from _family(name, "Time from body to answer of inference requests", "histogram")
        yield from self.duration.lines(name, self._model)
        name = "slipway_http_responses_total"
        help_text = "HTTP responses by status code; 499: the connection ended before one"
        yield from _family(name, help_text, "counter")
        for status, count in sorted(self.responses.items()):
            yield f'{name}{{code="{status}"}} {count}\n'
        name = "slipway_http_connections"
        yield from _family(name, "HTTP connections that are open", "gauge")
        yield f"{name} {self.connections()}\n"
        name = "slipway_body_bytes"
        help_text = "Bytes of bodies above 64 KiB, and of such messages, until they are answered"
        yield from _family(name, help_text, "gauge")
        yield f"{name} {self.body_bytes()}\n"
        name = "slipway_http_connections_closed_total"
        help_text = "HTTP connections that were too slow, or had to make room, by what was awaited"
        yield from _family(name, help_text, "counter")
        for reason, count in self.closed_connections.items():
            yield f'{name}{{reason="{reason}"}} {count}\n'
        yield from self._of_the_model()

    def _of_the_model(self) -> Iterable[str]:
        """Yield what is known of the model, and of how it came here."""
        yield from self._gauge(
            "slipway_model_info",
            "1, labelled with the digest of the model that is served",
            {f',digest="{self._digest}"': 1},
        )
        yield from self._gauge(
            "slipway_model_ready",
            "1 while the model is verified, loaded, warm and not draining",
            {"": self.ready},
        )
        yield from self._gauge(
            "slipway_model_load_seconds",
            "Time that each phase of loading took",
            {f',phase="{_escape(phase)}"': seconds for phase, seconds in self._phases.items()},
        )
        yield from self._gauge(
            "slipway_model_provider",
            "1 for each execution provider of the session, 0 for a preferred one that it lacks",
            {f',provider="{_escape(name)}"': value for name, value in self._providers.items()},
        )
        size, seconds = self._fetched or (0, 0.0)
        yield from self._gauge(
            "slipway_fetch_bytes",
            "Bytes that the last fetch brought; 0 where the cache held the artifact already",
            {} if self._fetched is None else {"": size},
        )
        yield from self._gauge(
            "slipway_fetch_seconds",
            "Time of the last fetch, verified and written",
            {} if self._fetched is None else {"": seconds},
        )

    def _gauge(self, name: str, help_text: str, values: Mapping[str, float]) -> Iterable[str]:
        """Yield a gauge, of values by the labels that they have besides the model's."""
        yield from _family(name, help_text, "gauge")
        for labels, value in values.items():
            yield f"{name}{{{self._model}{labels}}} {float(value)}\n"

    def _batch_sizes(self) -> Iterable[str]:
        """Yield the histogram of rows in an execution, from the counts by size."""
        name = "slipway_batch_size"
        yield from _family(name, "Rows that shared one execution of the model", "histogram")
        labels = self._labels.rstrip("}")
        for bound in _BATCH_BUCKETS:
            count = sum(batch.count for size, batch in self.batches.items() if size <= bound)
            yield f'{name}_bucket{labels},le="{bound}"}} {count}\n'
        yield f'{name}_bucket{labels},le="+Inf"}} {self.exec_count}\n'
        yield f"{name}_sum{self._labels} {self.inference_count}\n"
        yield f"{name}_count{self._labels} {self.exec_count}\n"


def _process_page() -> Callable[[], bytes]:
    """Return what writes the part of a page that tells of the process."""
    from prometheus_client import CollectorRegistry, ProcessCollector  # noqa: PLC0415
    from prometheus_client.exposition import generate_latest  # noqa: PLC0415

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return lambda: generate_latest(registry)


def _family(name: str, help_text: str, kind: str) -> tuple[str, str]:
    return f"# HELP {name} {help_text}\n", f"# TYPE {name} {kind}\n"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

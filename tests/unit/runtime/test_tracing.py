"""Spans as a collector receives them."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from runtime_kit import onnx_models
from runtime_kit.process import Server
from tritonclient.grpc import service_pb2, service_pb2_grpc

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE, SPAN = PARENT.split("-")[1:3]


class Collector:
    """Takes OTLP over HTTP and keeps the spans with the attributes of their resource."""

    def __init__(self) -> None:
        self._received: queue.Queue[tuple[Any, dict[str, str]]] = queue.Queue()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                body = self.rfile.read(int(self.headers["content-length"]))
                message = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
                for of_resource in message.resource_spans:
                    resource = {
                        pair.key: pair.value.string_value
                        for pair in of_resource.resource.attributes
                    }
                    for scope in of_resource.scope_spans:
                        for span in scope.spans:
                            collector._received.put((span, resource))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def take(self, count: int) -> dict[str, tuple[Any, dict[str, str]]]:
        found = [self._received.get(timeout=20) for _ in range(count)]
        return {span.name: (span, resource) for span, resource in found}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture(scope="module")
def server(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    extra = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.address,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "SLIPWAY_ACCESS_LOG": "true",
        "SLIPWAY_GRPC_PORT": "0",
    }
    folder = tmp_path_factory.mktemp("traced")
    with Server(folder, onnx_models.linear(), extra=extra) as server:
        yield server.start().wait_until_ready()


PHASES = ["decode", "queue", "infer", "encode"]


def test_a_request_is_a_span_of_its_callers_trace_and_its_phases_lie_in_it(
    server: Server, collector: Collector
) -> None:
    server.get("/v2/health/ready")
    server.post("/predict", [1, 2, 3, 4], {"traceparent": PARENT, "x-request-id": "traced"})
    spans = collector.take(5)
    whole, resource = spans["POST /predict"]
    assert (whole.trace_id.hex(), whole.parent_span_id.hex()) == (TRACE, SPAN)
    assert resource["slipway.model.digest"] == server.digest
    assert resource["service.name"] == "m"
    told = {pair.key: pair.value for pair in whole.attributes}
    assert told["slipway.request.id"].string_value == "traced"
    assert told["http.response.status_code"].int_value == 200
    last = whole.start_time_unix_nano
    for name in PHASES:
        span, _ = spans[name]
        assert (span.trace_id, span.parent_span_id) == (whole.trace_id, whole.span_id)
        # Clocks of floating point: a microsecond is lost here and there.
        assert last - 2000 <= span.start_time_unix_nano <= span.end_time_unix_nano
        last = span.start_time_unix_nano
    assert spans["encode"][0].end_time_unix_nano <= whole.end_time_unix_nano + 2000
    (line,) = [json.loads(line) for line in server.wait_for_log("traced") if "traced" in line]
    assert (line["trace_id"], line["digest"]) == (TRACE, server.digest)


def test_a_request_that_fails_is_a_span_with_an_error(server: Server, collector: Collector) -> None:
    server.post("/predict", b"{")
    ((name, (span, _)),) = collector.take(1).items()
    assert (name, span.status.code) == ("POST /predict", 2)
    assert span.trace_id.hex() != TRACE


def test_a_call_of_grpc_is_a_span_too(server: Server, collector: Collector) -> None:
    tensor = service_pb2.ModelInferRequest.InferInputTensor(
        name="x", datatype="FP32", shape=[1, 4], contents={"fp32_contents": [1, 2, 3, 4]}
    )
    with grpc.insecure_channel(server.grpc_address) as channel:
        service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(
            service_pb2.ModelInferRequest(model_name="m", inputs=[tensor]),
            metadata=(("traceparent", PARENT),),
        )
    spans = collector.take(5)
    whole, _ = spans.pop("inference.GRPCInferenceService/ModelInfer")
    assert (whole.trace_id.hex(), whole.parent_span_id.hex()) == (TRACE, SPAN)
    assert sorted(spans) == sorted(PHASES)


def test_the_line_of_a_call_past_its_deadline_names_its_callers_trace(
    collector: Collector, tmp_path: Path
) -> None:
    extra = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.address,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "SLIPWAY_ACCESS_LOG": "true",
        "SLIPWAY_GRPC_PORT": "0",
    }
    tensor = service_pb2.ModelInferRequest.InferInputTensor(
        name="rounds", datatype="INT64", shape=[1], contents={"int64_contents": [10**7]}
    )
    with Server(tmp_path, onnx_models.busy(), extra=extra) as server:
        server.start().wait_until_ready()
        with (
            grpc.insecure_channel(server.grpc_address) as channel,
            pytest.raises(grpc.RpcError, match="DEADLINE_EXCEEDED"),
        ):
            service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(
                service_pb2.ModelInferRequest(model_name="m", inputs=[tensor]),
                metadata=(("traceparent", PARENT),),
                timeout=0.5,
            )
        found = server.wait_for_log("/ModelInfer ")
        (line,) = [json.loads(line) for line in found if "/ModelInfer " in line]
        # Client and server have the same deadline; the client may be the first to give up.
        assert line["message"].endswith(("DEADLINE_EXCEEDED", "CANCELLED"))
        assert line["trace_id"] == TRACE
        ((_, (span, _)),) = collector.take(1).items()
        assert (span.trace_id.hex(), span.status.code) == (TRACE, 2)


def test_a_collector_that_does_not_answer_costs_no_request(tmp_path: Path) -> None:
    extra = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_BSP_SCHEDULE_DELAY": "10"}
    with Server(tmp_path, onnx_models.linear(), extra=extra) as server:
        server.start().wait_until_ready()
        for _ in range(20):
            assert server.post("/predict", [1, 2, 3, 4]).json == {"y": [41, 51]}
        server.terminate()
        assert server.wait_for_end(20).code == 0

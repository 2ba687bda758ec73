"""A request that takes long to decode or to encode leaves the server its other work."""

from __future__ import annotations

import contextlib
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator

import grpc
import numpy as np
import pytest
from runtime_kit import onnx_models
from runtime_kit.process import Reply, Server
from tritonclient.grpc import service_pb2, service_pb2_grpc

from slipway_runtime.inference import binary
from slipway_runtime.inference.tensors import DATATYPES, TensorSpec

STRINGS = 2_000_000
MEBIBYTE = 1024 * 1024
NUMBERS = 1_000_000


@pytest.fixture(scope="module")
def strings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of a model that returns the strings that it gets."""
    folder = tmp_path_factory.mktemp("strings")
    extra = {"SLIPWAY_GRPC_PORT": "0"}
    with Server(folder, onnx_models.identity("BYTES", shape=("n",)), extra=extra) as server:
        yield server.start().wait_until_ready()


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of a model that returns the numbers that it gets."""
    folder = tmp_path_factory.mktemp("numbers")
    with Server(folder, onnx_models.identity("FP32", shape=("n",))) as server:
        yield server.start().wait_until_ready()


def empty_strings() -> bytes:
    """Each takes four bytes, so a body of 8 MB has two million of them."""
    return bytes(4 * STRINGS)


def over_rest(server: Server) -> Reply:
    tensor = {
        "name": "x",
        "shape": [STRINGS],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": 4 * STRINGS},
    }
    outputs = [{"name": "y", "parameters": {"binary_data": True}}]
    head = json.dumps({"inputs": [tensor], "outputs": outputs}).encode()
    headers = {"inference-header-content-length": str(len(head))}
    reply = server.post("/v2/models/m/infer", head + empty_strings(), headers)
    assert reply.status == 200, reply.body[:500]
    assert reply.body.endswith(empty_strings())
    return reply


def over_grpc(server: Server) -> None:
    request = service_pb2.ModelInferRequest(model_name="m", raw_input_contents=[empty_strings()])
    request.inputs.add(name="x", datatype="BYTES", shape=[STRINGS])
    largest = [("grpc.max_receive_message_length", 64 * MEBIBYTE)]
    with grpc.insecure_channel(server.grpc_address, options=largest) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer = stub.ModelInfer(request, timeout=60)
    assert list(answer.raw_output_contents) == [empty_strings()]


def seconds_of_probes_beside(work: Callable[[], object], server: Server) -> list[float]:
    """Ask the probes again and again until the work is done; how long each answer took."""
    failures: list[Exception] = []

    def do() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - told below
            failures.append(error)

    worker = threading.Thread(target=do)
    worker.start()
    seconds: list[float] = []
    with contextlib.closing(server.connect()) as connection:
        while worker.is_alive():
            for path in ("/v2/health/live", "/v2/health/ready"):
                begun = time.monotonic()
                connection.request("GET", path)
                answer = connection.getresponse()
                assert answer.status == 200, answer.read()
                answer.read()
                seconds.append(time.monotonic() - begun)
    worker.join()
    assert failures == []
    return seconds


@pytest.mark.parametrize("ask", [over_rest, over_grpc])
def test_probes_answer_while_millions_of_strings_are_decoded_and_encoded(
    strings: Server, ask: Callable[[Server], object]
) -> None:
    begun = time.monotonic()
    spec = TensorSpec("x", DATATYPES["BYTES"], (None,))
    binary.from_bytes(spec, empty_strings(), (STRINGS,))
    on_the_event_loop = time.monotonic() - begun
    seconds = seconds_of_probes_beside(lambda: ask(strings), strings)
    assert max(seconds) < on_the_event_loop / 2
    assert statistics.median(seconds) < 0.05


def test_a_large_request_in_json_is_answered_like_a_small_one(numbers: Server) -> None:
    values = np.arange(NUMBERS, dtype=np.float32)
    tensor = {"name": "x", "shape": [NUMBERS], "datatype": "FP32", "data": values.tolist()}
    reply = numbers.post("/v2/models/m/infer", {"inputs": [tensor]})
    assert reply.status == 200
    assert reply.json["outputs"][0]["data"] == values.tolist()


def test_errors_in_a_large_request_are_told_as_those_of_a_small_one(numbers: Server) -> None:
    values: list[object] = [0.5] * NUMBERS
    values[NUMBERS - 1] = "half"
    tensor = {"name": "x", "shape": [NUMBERS], "datatype": "FP32", "data": values}
    reply = numbers.post("/v2/models/m/infer", {"inputs": [tensor]})
    assert reply.status == 400
    assert f"{NUMBERS - 1}" in reply.json["error"]


def test_the_time_that_decoding_takes_counts_against_the_deadline(strings: Server) -> None:
    tensor = {
        "name": "x",
        "shape": [STRINGS],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": 4 * STRINGS},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"timeout": 1000}}).encode()
    headers = {"inference-header-content-length": str(len(head))}
    reply = strings.post("/v2/models/m/infer", head + empty_strings(), headers)
    assert reply.status == 504

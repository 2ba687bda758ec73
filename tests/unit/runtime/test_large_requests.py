"""A request that takes long to decode or to encode leaves the server its other work."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import statistics
import struct
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import grpc
import numpy as np
import pytest
from runtime_kit import onnx_models
from runtime_kit.in_process import InProcess
from runtime_kit.process import Server
from tritonclient.grpc import service_pb2, service_pb2_grpc

from slipway_runtime.errors import BadRequest
from slipway_runtime.inference import binary
from slipway_runtime.inference.json_values import NonFinite
from slipway_runtime.inference.model import Model
from slipway_runtime.inference.tensors import DATATYPES, Array, TensorSpec
from slipway_runtime.protocol.request import Call
from slipway_runtime.server.codec_pool import CodecPool

STRINGS = 2_000_000
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


async def test_the_garbage_collector_rests_while_something_large_is_parsed() -> None:
    pool = CodecPool()
    both = threading.Barrier(2, timeout=10)

    def look() -> bool:
        both.wait()
        return gc.isenabled()

    assert gc.isenabled()
    assert await asyncio.gather(pool.call(look), pool.call(look)) == [False, False]
    assert gc.isenabled()


async def test_it_works_now_and_then_where_there_is_always_something_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("slipway_runtime.server.codec_pool._LONGEST_REST_SECONDS", 0.0)
    pool = CodecPool()
    release = threading.Event()
    lasting = asyncio.create_task(pool.call(lambda: release.wait(10)))
    before = weakref.ref(made := Cycle())
    del made
    await pool.call(lambda: None)
    assert before() is None
    release.set()
    await lasting


class Cycle:
    """What only the collector frees."""

    def __init__(self) -> None:
        self.itself = self


def strings_of_which_the_last_is_none() -> bytes:
    """The content of a tensor of BYTES; each string takes four bytes, so 8 MB hold two million.

    The last is not UTF-8, so the request is refused once all are decoded: ONNX Runtime, which
    copies strings while no other thread may run, gets none of them.
    """
    return bytes(4 * (STRINGS - 1)) + struct.pack("<I", 1) + b"\xff"


def over_rest(server: Server) -> str:
    data = strings_of_which_the_last_is_none()
    tensor = {
        "name": "x",
        "shape": [STRINGS],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(data)},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {"inference-header-content-length": str(len(head))}
    reply = server.post("/v2/models/m/infer", head + data, headers)
    assert reply.status == 400
    return reply.json["error"]


def over_grpc(server: Server) -> str:
    request = service_pb2.ModelInferRequest(
        model_name="m", raw_input_contents=[strings_of_which_the_last_is_none()]
    )
    request.inputs.add(name="x", datatype="BYTES", shape=[STRINGS])
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as error:
            stub.ModelInfer(request, timeout=60)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    return error.value.details() or ""


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
def test_probes_answer_while_millions_of_strings_are_decoded(
    strings: Server, ask: Callable[[Server], str]
) -> None:
    spec = TensorSpec("x", DATATYPES["BYTES"], (None,))
    begun = time.monotonic()
    with pytest.raises(BadRequest):
        binary.from_bytes(spec, strings_of_which_the_last_is_none(), (STRINGS,))
    on_the_event_loop = time.monotonic() - begun
    told: list[str] = []
    seconds = seconds_of_probes_beside(lambda: told.append(ask(strings)), strings)
    assert f"the string at position {STRINGS - 1} is not UTF-8" in told[0]
    assert max(seconds) < on_the_event_loop / 2
    assert statistics.median(seconds) < 0.05


@pytest.mark.parametrize(
    ("numbers", "aside"), [(16, False), (NUMBERS, True)], ids=["small", "large"]
)
async def test_what_is_large_is_decoded_and_encoded_on_a_thread_of_its_own(
    tmp_path: Path, *, numbers: int, aside: bool
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_models.identity(shape=("n",)))
    values = np.ones(numbers, np.float32)
    threads: list[str] = []

    def encode(outputs: Mapping[str, Array], _non_finite: NonFinite) -> int:
        threads.append(threading.current_thread().name)
        return outputs["y"].size

    def decode(_model: Model) -> Call[int]:
        threads.append(threading.current_thread().name)
        return Call({"x": values}, encode)

    service = InProcess(path).service
    assert await service.answer(decode, time.perf_counter(), size=values.nbytes) == numbers
    assert [name.startswith("codec") for name in threads] == [aside, aside]
    assert service.in_flight == 0


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
    reply = strings.post("/v2/models/m/infer", head + bytes(4 * STRINGS), headers)
    assert reply.status == 504

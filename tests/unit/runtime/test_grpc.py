"""The gRPC service as clients see it. The messages are tritonclient's, not the server's own."""

from __future__ import annotations

import asyncio
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
import tritonclient.http as triton_http
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from runtime_kit import onnx_models
from runtime_kit.process import Server
from tritonclient.grpc import service_pb2, service_pb2_grpc

ROWS = np.arange(8, dtype=np.float32).reshape(2, 4)
EXPECTED = ROWS @ np.arange(8, dtype=np.float32).reshape(4, 2) + 1
ON = {"SLIPWAY_GRPC_PORT": "0"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("grpc")
    extra = ON | {"SLIPWAY_MAX_BODY_BYTES": "100000", "SLIPWAY_MODEL_ALIASES": "other"}
    with Server(folder, onnx_models.linear(), extra=extra) as server:
        yield server.start().wait_until_ready()


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.grpc_address) as client:
        yield client


@pytest.fixture(scope="module")
def stub(server: Server) -> Iterator[Any]:
    with grpc.insecure_channel(server.grpc_address) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def rows() -> Any:
    tensor = triton.InferInput("x", ROWS.shape, "FP32")
    tensor.set_data_from_numpy(ROWS)
    return tensor


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
@pytest.mark.parametrize("name", ["m", "other"])
def test_tritonclient_works_unmodified(client: Any, name: str, compression: str | None) -> None:
    result = client.infer(
        name,
        [rows()],
        outputs=[triton.InferRequestedOutput("y")],
        request_id="7",
        compression_algorithm=compression,
    )
    assert np.array_equal(result.as_numpy("y"), EXPECTED)
    assert result.get_response().id == "7"


def test_tritonclient_finds_everything_it_asks_for(client: Any, server: Server) -> None:
    version = server.digest[7:19]
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("m", version)
    assert not client.is_model_ready("nobody")
    assert not client.is_model_ready("m", "9")
    assert client.get_server_metadata().name == "slipway-runtime"
    metadata = client.get_model_metadata("m", "1")
    assert list(metadata.versions) == [version]
    assert list(metadata.inputs[0].shape) == [-1, 4]
    config = client.get_model_config("m").config
    assert (config.name, config.backend) == ("m", "onnxruntime")
    assert config.parameters["digest"].string_value == server.digest
    (model,) = client.get_model_repository_index().models
    assert (model.name, model.version, model.state) == ("m", version, "READY")
    before = client.get_inference_statistics("m").model_stats[0]
    client.infer("m", [rows()])
    after = client.get_inference_statistics().model_stats[0]
    assert after.inference_count - before.inference_count == 2
    assert after.inference_stats.success.count - before.inference_stats.success.count == 1


def test_tritonclients_async_client_and_stream_work(server: Server, client: Any) -> None:
    async def ask() -> Any:
        async with triton_aio.InferenceServerClient(server.grpc_address) as aio:
            return await asyncio.gather(*(aio.infer("m", [rows()]) for _ in range(8)))

    for result in asyncio.run(ask()):
        assert np.array_equal(result.as_numpy("y"), EXPECTED)

    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    client.async_stream_infer("m", [rows()], request_id="a")
    client.async_stream_infer("nobody", [rows()], request_id="b")
    client.async_stream_infer("m", [rows()], request_id="c")
    first, second, third = (answers.get(timeout=10) for _ in range(3))
    client.stop_stream()
    assert first[0].get_response().id == "a"
    assert "no model 'nobody'" in str(second[1])
    assert third[0].get_response().id == "c"


def request(*tensors: Any, raw: tuple[bytes, ...] = (), **more: Any) -> Any:
    return service_pb2.ModelInferRequest(
        model_name="m", inputs=tensors, raw_input_contents=raw, **more
    )


def tensor(datatype: str = "FP32", shape: Any = (1, 4), **contents: Any) -> Any:
    made = service_pb2.ModelInferRequest().InferInputTensor(
        name="x", datatype=datatype, shape=shape
    )
    if contents:
        made.contents.CopyFrom(service_pb2.InferTensorContents(**contents))
    return made


FOUR = {"fp32_contents": [1, 2, 3, 4]}
RAW = np.array([1, 2, 3, 4], np.float32).tobytes()


def test_typed_and_raw_contents_give_the_same(stub: Any, server: Server) -> None:
    for asked in (request(tensor(**FOUR)), request(tensor(), raw=(RAW,))):
        response, call = stub.ModelInfer.with_call(asked)
        (raw,) = response.raw_output_contents
        assert np.frombuffer(raw, np.float32).tolist() == [41, 51]
        assert ("slipway-model-digest", server.digest) in call.trailing_metadata()


@pytest.mark.parametrize(
    ("asked", "code", "message"),
    [
        (request(tensor()), "INVALID_ARGUMENT", "has 4 elements, fp32_contents has 0"),
        (request(tensor(fp64_contents=[1])), "INVALID_ARGUMENT", "takes fp32_contents, got fp64"),
        (request(tensor(**FOUR), raw=(RAW,)), "INVALID_ARGUMENT", "beside raw_input_contents"),
        (request(tensor(), raw=(RAW, RAW)), "INVALID_ARGUMENT", "2 raw_input_contents for 1"),
        (request(tensor(), raw=(RAW[:-1],)), "INVALID_ARGUMENT", "takes 16 bytes, got 15"),
        (request(tensor("INT64"), raw=(RAW,)), "INVALID_ARGUMENT", "has the datatype FP32"),
        (request(tensor(shape=(4,), **FOUR)), "INVALID_ARGUMENT", "has 2 dimensions"),
        (request(tensor(shape=(-1, 4), **FOUR)), "INVALID_ARGUMENT", "at least 0"),
        (request(), "INVALID_ARGUMENT", "input 'x' is missing"),
        (
            request(tensor(), raw=(RAW,), outputs=[{"name": "z"}]),
            "INVALID_ARGUMENT",
            "no output 'z'",
        ),
        (
            request(tensor(), raw=(RAW,), parameters={"sequence_id": {"int64_param": 1}}),
            "INVALID_ARGUMENT",
            "keeps no state",
        ),
        (service_pb2.ModelInferRequest(model_name="n"), "NOT_FOUND", "no model 'n' here"),
        (
            service_pb2.ModelInferRequest(model_name="m", model_version="9"),
            "NOT_FOUND",
            "no version '9'",
        ),
        (request(tensor(), raw=(b"0" * 200_000,)), "RESOURCE_EXHAUSTED", "larger than max"),
    ],
)
def test_what_cannot_be_answered_has_a_code_and_a_sentence(
    stub: Any, asked: Any, code: str, message: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(asked)
    error: Any = caught.value
    assert error.code().name == code
    assert message in error.details()


@pytest.mark.parametrize(
    ("method", "asked"),
    [
        ("RepositoryModelLoad", service_pb2.RepositoryModelLoadRequest(model_name="m")),
        ("SystemSharedMemoryStatus", service_pb2.SystemSharedMemoryStatusRequest()),
        ("CudaSharedMemoryRegister", service_pb2.CudaSharedMemoryRegisterRequest(name="r")),
        ("TraceSetting", service_pb2.TraceSettingRequest()),
        ("LogSettings", service_pb2.LogSettingsRequest()),
    ],
)
def test_what_the_server_leaves_out_is_unimplemented_with_a_sentence(
    stub: Any, method: str, asked: Any
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        getattr(stub, method)(asked)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "does not offer it" in error.details()


def test_the_service_and_its_health_are_found_by_reflection(server: Server) -> None:
    def ask(**asked: Any) -> Any:
        with grpc.insecure_channel(server.grpc_address) as channel:
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            asking = reflection_pb2.ServerReflectionRequest(**asked)
            return next(iter(stub.ServerReflectionInfo(iter([asking]))))

    listed = {one.name for one in ask(list_services="").list_services_response.service}
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= listed
    for name in listed:
        answer = ask(file_containing_symbol=name).file_descriptor_response
        file = descriptor_pb2.FileDescriptorProto.FromString(answer.file_descriptor_proto[0])
        assert name in [f"{file.package}.{service.name}" for service in file.service]


def test_our_definition_agrees_with_tritons() -> None:
    """Same names, numbers and types, wherever ours has a field."""
    script = """
import sys
from slipway_runtime.protocol.messages import INFERENCE, POOL, methods
from tritonclient.grpc import service_pb2, model_config_pb2
theirs = {**service_pb2.DESCRIPTOR.message_types_by_name,
          **model_config_pb2.DESCRIPTOR.message_types_by_name}
ours = POOL.FindFileByName("inference.proto").message_types_by_name
def compare(one, other):
    for field in one.fields:
        same = other.fields_by_name[field.name]
        assert (field.number, field.type, field.is_repeated) == (
            same.number, same.type, same.is_repeated), field.full_name
    for nested in one.nested_types:
        compare(nested, other.nested_types_by_name[nested.name])
    return len(one.fields)
count = sum(compare(m, theirs[name]) for name, m in ours.items() if name != "NotOffered")
service = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
assert {m.name for m in methods(INFERENCE)} == {m.name for m in service.methods}
print(count)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 80


def test_the_compiled_definition_is_fresh() -> None:
    script = Path(__file__).parents[3] / "runtime/compile_proto.py"
    done = subprocess.run(
        [sys.executable, script, "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def datatypes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("datatypes")
    with Server(folder, onnx_models.every_datatype(), extra=ON) as server:
        yield server.start().wait_until_ready()


DTYPES: dict[str, Any] = {
    name: np.dtype(name.lower())
    for name in onnx_models.ELEMENT_TYPES
    if name.startswith(("INT", "UINT"))
} | {
    "BOOL": np.dtype(bool),
    "FP16": np.dtype("float16"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "FP32": np.dtype("float32"),
    "FP64": np.dtype("float64"),
}


@settings(max_examples=25, deadline=None)
@given(st.data(), hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=4))
def test_grpc_and_rest_give_the_bits_that_were_sent(
    datatypes: Server, data: st.DataObject, shape: tuple[int, int]
) -> None:
    arrays: dict[str, Any] = {}
    for name, dtype in DTYPES.items():
        octets = shape[0] * shape[1] * dtype.itemsize
        content = data.draw(st.binary(min_size=octets, max_size=octets))
        if name == "BOOL":
            content = bytes(octet & 1 for octet in content)
        arrays[name] = np.frombuffer(content, dtype).reshape(shape)

    def ask(module: Any, address: str) -> dict[str, Any]:
        tensors: list[Any] = []
        for name, array in arrays.items():
            tensors.append(module.InferInput(f"in_{name}", list(shape), name))
            tensors[-1].set_data_from_numpy(array)
        with module.InferenceServerClient(address) as client:
            result = client.infer("m", tensors)
            return {name: result.as_numpy(f"out_{name}") for name in arrays}

    by_grpc = ask(triton, datatypes.grpc_address)
    by_rest = ask(triton_http, f"127.0.0.1:{datatypes.port}")
    for name, array in arrays.items():
        assert by_grpc[name].shape == by_rest[name].shape == shape
        assert by_grpc[name].tobytes() == by_rest[name].tobytes() == array.tobytes(), name


def test_numbers_outside_their_datatype_are_refused(datatypes: Server) -> None:
    fields = {"BOOL": "bool_contents", "INT64": "int64_contents", "UINT64": "uint64_contents"}
    fields |= {"FP32": "fp32_contents", "FP64": "fp64_contents"}
    wrong = {"INT8": 128, "UINT8": 256, "INT16": -(2**15) - 1, "UINT16": 2**16}
    with grpc.insecure_channel(datatypes.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for name, value in wrong.items():
            asked = service_pb2.ModelInferRequest(model_name="m")
            order = [name, *(other for other in DTYPES if other != name)]
            for other in order:
                field = fields.get(other, "uint_contents" if other[0] == "U" else "int_contents")
                made = asked.inputs.add(name=f"in_{other}", datatype=other, shape=[1, 1])
                getattr(made.contents, field).append(value if other == name else 1)
            with pytest.raises(grpc.RpcError) as caught:
                stub.ModelInfer(asked)
            error: Any = caught.value
            assert f"{value} at position 0 is out of range for {name}" in error.details()


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(
        tmp_path_factory.mktemp("busy"), onnx_models.busy(), extra=ON | {"SLIPWAY_MAX_QUEUE": "2"}
    ) as server:
        yield server.start().wait_until_ready()


def rounds(count: int) -> Any:
    asked = service_pb2.ModelInferRequest(model_name="m")
    made = asked.inputs.add(name="rounds", datatype="INT64", shape=[1])
    made.contents.int64_contents.append(count)
    return asked


def test_a_clients_deadline_or_departure_ends_the_run(busy: Server) -> None:
    with grpc.insecure_channel(busy.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(rounds(10**8), timeout=0.3)
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        gone = stub.ModelInfer.future(rounds(10**8))
        time.sleep(0.2)
        gone.cancel()
        started = time.monotonic()
        stub.ModelInfer(rounds(1))
        assert time.monotonic() - started < 3


def health_of(address: str, name: str = "") -> str:
    with grpc.insecure_channel(address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service=name), timeout=5
        )
        return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def test_health_answers_during_a_long_inference(busy: Server) -> None:
    with grpc.insecure_channel(busy.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        running = stub.ModelInfer.future(rounds(10**8))
        time.sleep(0.2)
        started = time.monotonic()
        for name in ("", "m", "inference.GRPCInferenceService"):
            assert health_of(busy.grpc_address, name) == "SERVING"
        assert time.monotonic() - started < 1
        running.cancel()


def test_a_full_queue_says_when_to_come_back(busy: Server) -> None:
    with grpc.insecure_channel(busy.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        running = [stub.ModelInfer.future(rounds(10**8)) for _ in range(4)]
        ended: queue.Queue[Any] = queue.Queue()
        for future in running:
            future.add_done_callback(ended.put)
        refused = ended.get(timeout=10)
        for future in running:
            future.cancel()
    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert ("grpc-retry-pushback-ms", "1000") in refused.trailing_metadata()


def test_sigterm_finishes_what_is_in_flight(tmp_path: Path) -> None:
    extra = ON | {"SLIPWAY_DRAIN_DELAY_SECONDS": "1"}
    with Server(tmp_path, onnx_models.busy(), extra=extra) as server:
        server.start().wait_until_ready()
        with grpc.insecure_channel(server.grpc_address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            stub.ModelInfer(rounds(10))
            answers: list[Any] = []
            inference = threading.Thread(
                target=lambda: answers.append(stub.ModelInfer(rounds(5000)))
            )
            inference.start()
            time.sleep(0.1)
            server.terminate()
            time.sleep(0.3)
            assert health_of(server.grpc_address) == "NOT_SERVING"
            stub.ModelInfer(rounds(1))
            inference.join()
            assert server.wait_for_end(20).code == 0
        assert len(answers) == 1


def test_a_grpc_port_in_use_is_named(tmp_path: Path, server: Server) -> None:
    extra = {"SLIPWAY_GRPC_PORT": server.grpc_address.rpartition(":")[2]}
    with Server(tmp_path, onnx_models.linear(), extra=extra) as second:
        ended = second.start().wait_for_end(20)
    assert (ended.code, ended.termination["reason"]) == (2, "InvalidArguments")
    assert "SLIPWAY_GRPC_PORT" in ended.termination["message"]


def test_the_access_log_has_calls_beside_requests(tmp_path: Path) -> None:
    extra = ON | {"SLIPWAY_ACCESS_LOG": "true"}
    with Server(tmp_path, onnx_models.linear(), extra=extra) as server:
        server.start().wait_until_ready()
        with triton.InferenceServerClient(server.grpc_address) as client:
            client.infer("m", [rows()], request_id="of-message")
            client.infer("m", [rows()], headers={"x-request-id": "of-metadata"})
            with pytest.raises(triton.InferenceServerException):
                client.infer("other", [rows()], request_id="refused")
            answers: queue.Queue[Any] = queue.Queue()
            client.start_stream(lambda result, error: answers.put((result, error)))
            client.async_stream_infer("m", [rows()], request_id="streamed")
            client.async_stream_infer("other", [rows()], request_id="streamed-and-refused")
            for _ in range(2):
                answers.get(timeout=10)
            client.stop_stream()
        told = [
            json.loads(line)
            for line in server.wait_for_log("streamed-and-refused")
            if "GRPC" in line
        ]
    service = "GRPC /inference.GRPCInferenceService"
    assert [(line["request_id"], line["message"]) for line in told] == [
        ("of-message", f"{service}/ModelInfer OK"),
        ("of-metadata", f"{service}/ModelInfer OK"),
        ("refused", f"{service}/ModelInfer NOT_FOUND"),
        ("streamed", f"{service}/ModelStreamInfer OK"),
        ("streamed-and-refused", f"{service}/ModelStreamInfer NOT_FOUND"),
    ]
    assert all(line["digest"] == server.digest for line in told)
    assert all(line["milliseconds"] > 0 for line in told)
    assert [line["bytes"] > 0 for line in told] == [True, True, False, True, True]


def test_an_error_in_a_stream_says_which_request_it_is_of(server: Server) -> None:
    requests = [
        service_pb2.ModelInferRequest(model_name=name, id=name) for name in ("nobody", "none")
    ]
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answers = list(stub.ModelStreamInfer(iter(requests)))
    assert all(answer.error_message for answer in answers)
    assert [answer.infer_response.id for answer in answers] == ["nobody", "none"]

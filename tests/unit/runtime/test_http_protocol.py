"""The Open Inference Protocol over HTTP as clients speak it: tritonclient, compression."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
import zlib
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from hypothesis import given
from hypothesis import strategies as st
from runtime_kit import onnx_models
from runtime_kit.process import Server

from slipway_runtime.errors import BadRequest
from slipway_runtime.server.compression import inflate as inflated

ROWS = np.arange(8, dtype=np.float32).reshape(2, 4)
WEIGHTS = np.arange(8, dtype=np.float32).reshape(4, 2)
EXPECTED = ROWS @ WEIGHTS + 1


@pytest.fixture
def client(linear_server: Server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"127.0.0.1:{linear_server.port}") as client:
        yield client


@pytest.fixture(scope="module")
def datatypes_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("datatypes")
    extra = {"SLIPWAY_NON_FINITE": "string", "SLIPWAY_MODEL_ALIASES": "other, another"}
    with Server(folder, onnx_models.every_datatype(), extra=extra) as server:
        yield server.start().wait_until_ready()


def rows(*, binary: bool) -> Any:
    tensor = triton.InferInput("x", ROWS.shape, "FP32")
    tensor.set_data_from_numpy(ROWS, binary_data=binary)
    return tensor


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("outputs", [None, True, False])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_tritonclient_works_unmodified(
    client: Any, binary_in: bool, outputs: bool | None, compression: str | None
) -> None:
    requested = None if outputs is None else [triton.InferRequestedOutput("y", binary_data=outputs)]
    result = client.infer(
        "m",
        [rows(binary=binary_in)],
        outputs=requested,
        request_id="7",
        request_compression_algorithm=compression,
        response_compression_algorithm=compression,
    )
    assert np.array_equal(result.as_numpy("y"), EXPECTED)
    assert result.get_response()["id"] == "7"


def test_tritonclient_finds_everything_it_asks_for(client: Any, linear_server: Server) -> None:
    version = linear_server.digest[7:19]
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("m")
    assert client.is_model_ready("m", version)
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_metadata("m")["inputs"][0]["shape"] == [-1, 4]
    assert client.get_model_repository_index() == [
        {"name": "m", "version": version, "state": "READY", "reason": ""}
    ]
    config = client.get_model_config("m", version)
    assert config["name"] == "m"
    assert config["backend"] == "onnxruntime"
    assert config["input"][0]["data_type"] == "TYPE_FP32"
    assert config["parameters"]["digest"]["string_value"] == linear_server.digest


def test_the_statistics_count_what_was_done(client: Any) -> None:
    def read() -> dict[str, Any]:
        (stats,) = client.get_inference_statistics("m")["model_stats"]
        return stats

    before = read()
    for _ in range(3):
        client.infer("m", [rows(binary=True)])
    with pytest.raises(triton.InferenceServerException):
        client.infer("m", [triton.InferInput("z", [1], "FP32")])
    after = read()
    assert after["inference_count"] - before["inference_count"] == 6
    assert after["execution_count"] - before["execution_count"] == 3
    assert after["last_inference"] > 0
    for name, count in (("success", 3), ("fail", 1), ("compute_infer", 3)):
        one, other = (stats["inference_stats"][name] for stats in (before, after))
        assert other["count"] - one["count"] == count
        assert other["ns"] > one["ns"]
    (batch,) = [batch for batch in after["batch_stats"] if batch["batch_size"] == 2]
    assert batch["compute_infer"]["ns"] > 0
    for part in ("compute_input", "compute_infer", "compute_output"):
        assert batch[part]["count"] >= 3


def test_tritonclients_async_client_works_too(linear_server: Server) -> None:
    async def ask() -> Any:
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{linear_server.port}") as client:
            results = await asyncio.gather(
                *(client.infer("m", [rows(binary=True)]) for _ in range(8))
            )
            return [result.as_numpy("y") for result in results]

    for answer in asyncio.run(ask()):
        assert np.array_equal(answer, EXPECTED)


def sample(datatype: str) -> Any:
    if datatype in ("BF16", "FP16", "FP32", "FP64"):
        dtype = ml_dtypes.bfloat16 if datatype == "BF16" else datatype.replace("FP", "float")
        return np.array([[0.5, -2.0], [np.nan, np.inf]], dtype=dtype)
    if datatype == "BOOL":
        return np.array([[True, False], [False, True]])
    limits = np.iinfo(datatype.lower())
    return np.array([[limits.min, limits.max], [0, 1]], dtype=datatype.lower())


def test_every_datatype_passes_through_tritonclient_in_binary(datatypes_server: Server) -> None:
    names = [name for name in onnx_models.ELEMENT_TYPES if name != "BYTES"]
    inputs: list[Any] = []
    for name in names:
        tensor = triton.InferInput(f"in_{name}", [2, 2], name)
        tensor.set_data_from_numpy(sample(name))
        inputs.append(tensor)
    with triton.InferenceServerClient(f"127.0.0.1:{datatypes_server.port}") as client:
        result = client.infer("other", inputs)
    for name in names:
        given, got = sample(name), result.as_numpy(f"out_{name}")
        assert got.tobytes() == given.tobytes(), name


def test_values_that_are_not_finite_are_strings_where_the_operator_says_so(
    datatypes_server: Server,
) -> None:
    def tensor(name: str) -> dict[str, Any]:
        data = [True] if name == "BOOL" else [1]
        return {"name": f"in_{name}", "shape": [1, 1], "datatype": name, "data": data}

    names = [name for name in onnx_models.ELEMENT_TYPES if name not in ("BYTES", "FP32")]
    nan = np.array([np.nan], np.float32).tobytes()
    fp32 = {
        "name": "in_FP32",
        "shape": [1, 1],
        "datatype": "FP32",
        "parameters": {"binary_data_size": 4},
    }
    header = json.dumps(
        {"inputs": [fp32, *map(tensor, names)], "outputs": [{"name": "out_FP32"}]}
    ).encode()
    reply = datatypes_server.request(
        "POST",
        "/v2/models/another/infer",
        header + nan,
        {"inference-header-content-length": str(len(header))},
    )
    assert reply.json["outputs"][0]["data"] == ["NaN"]


def test_strings_pass_through_tritonclient(tmp_path: Any) -> None:
    texts = np.array([["żółw", ""], ["a", "bc"]], dtype=np.object_)
    with Server(tmp_path, onnx_models.identity("BYTES")) as server:
        server.start().wait_until_ready()
        with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
            for binary in (True, False):
                tensor = triton.InferInput("x", [2, 2], "BYTES")
                tensor.set_data_from_numpy(texts, binary_data=binary)
                wanted = triton.InferRequestedOutput("y", binary_data=binary)
                got = client.infer("m", [tensor], outputs=[wanted]).as_numpy("y")
                decoded = [item.decode() if binary else item for item in got.reshape(-1)]
                assert decoded == texts.reshape(-1).tolist()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/repository/models/m/load"),
        ("POST", "/v2/repository/models/m/unload"),
        ("GET", "/v2/systemsharedmemory/status"),
        ("POST", "/v2/cudasharedmemory/region/r/register"),
        ("GET", "/v2/trace/setting"),
        ("POST", "/v2/models/m/trace/setting"),
        ("POST", "/v2/logging"),
    ],
)
def test_what_the_server_leaves_out_is_501_with_a_sentence(
    linear_server: Server, method: str, path: str
) -> None:
    reply = linear_server.request(method, path)
    assert reply.status == 501
    assert "this server does not offer" in reply.json["error"]


MANY = [[1, 2, 3, 4]] * 500


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", lambda data: zlib.compress(data, wbits=-15)),
        ("gzip", lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:])),
    ],
)
def test_compressed_bodies_are_understood(
    linear_server: Server, encoding: str, compress: Any
) -> None:
    body = compress(json.dumps(MANY).encode())
    reply = linear_server.post("/predict", body, {"content-encoding": encoding})
    assert reply.json == {"y": [[41, 51]] * 500}


def test_many_small_streams_of_gzip_take_no_more_than_their_number() -> None:
    body = gzip.compress(b"") * 100_000 + gzip.compress(b"[1]")
    began = time.process_time()
    assert inflated(b"gzip", body, 100) == b"[1]"
    # With their square it was seven seconds, of a body of 2 MB.
    assert time.process_time() - began < 3


@given(st.lists(st.binary(max_size=3000), min_size=1, max_size=5), st.integers(0, 30))
def test_streams_of_gzip_are_joined_and_an_early_end_is_told(parts: list[bytes], cut: int) -> None:
    body = b"".join(map(gzip.compress, parts))
    assert inflated(b"gzip", body, 100_000) == b"".join(parts)
    if cut:
        with pytest.raises(BadRequest):
            inflated(b"gzip", body[:-cut] if cut < 18 else body + b"x" * cut, 100_000)


@pytest.mark.parametrize(
    ("accept", "encoding", "inflate"),
    [
        ("gzip", "gzip", gzip.decompress),
        ("deflate, br", "deflate", zlib.decompress),
        ("gzip;q=0.1, deflate;q=0.9", "deflate", zlib.decompress),
        ("br, gzip;q=0", None, lambda data: data),
    ],
)
def test_long_answers_are_compressed_for_who_accepts_it(
    linear_server: Server, accept: str, encoding: str | None, inflate: Any
) -> None:
    reply = linear_server.post("/predict", MANY, {"accept-encoding": accept})
    assert reply.headers.get("content-encoding") == encoding
    assert json.loads(inflate(reply.body)) == {"y": [[41, 51]] * 500}
    short = linear_server.post("/predict", MANY[:1], {"accept-encoding": accept})
    assert "content-encoding" not in short.headers


@pytest.mark.parametrize(
    ("encoding", "body", "status", "message"),
    [
        ("gzip", gzip.compress(b"0" * 200_000, mtime=0), 413, "the inflated body is larger"),
        ("gzip", gzip.compress(b"[1,2,3,4]", mtime=0)[:-4], 400, "ends before"),
        ("gzip", b"[1,2,3,4]", 400, "is not gzip"),
        ("gzip", b"", 400, "ends before"),
        ("deflate", zlib.compress(b"[1,2,3,4]") + b"x", 400, "1 bytes follow"),
        ("br", b"", 415, "send the body as gzip"),
    ],
)
def test_what_cannot_be_inflated_is_refused(
    linear_server: Server, encoding: str, body: bytes, status: int, message: str
) -> None:
    reply = linear_server.post("/predict", body, {"content-encoding": encoding})
    assert reply.status == status
    assert message in reply.json["error"]


@pytest.mark.parametrize("value", ["-1", "x", "1" * 30])
def test_a_header_length_that_is_no_number_is_refused(linear_server: Server, value: str) -> None:
    reply = linear_server.post(
        "/v2/models/m/infer", b"{}", {"inference-header-content-length": value}
    )
    assert reply.status == 400
    assert "must be a number of bytes" in reply.json["error"]


def test_large_binary_answers_arrive_whole(datatypes_server: Server, tmp_path: Any) -> None:
    values = np.random.default_rng(1).random((500, 1000), dtype=np.float32)
    with Server(tmp_path, onnx_models.identity()) as server:
        server.start().wait_until_ready()
        with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
            tensor = triton.InferInput("x", values.shape, "FP32")
            tensor.set_data_from_numpy(values)
            for algorithm in (None, "gzip"):
                result = client.infer("m", [tensor], response_compression_algorithm=algorithm)
                assert np.array_equal(result.as_numpy("y"), values)

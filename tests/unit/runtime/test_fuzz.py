"""Whatever a client sends, it is answered, and never with a defect of ours.

`make fuzz MINUTES=5` tries far more than the tests of every day do, and other examples each time.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from runtime_kit import onnx_models
from runtime_kit.fuzzing import examples, mutations, openapi
from runtime_kit.fuzzing import mutated as damaged
from runtime_kit.in_process import InProcess
from runtime_kit.process import Server
from tritonclient.grpc import service_pb2

from slipway_runtime.errors import InferenceFailed, RequestError
from slipway_runtime.protocol import v2_grpc
from slipway_runtime.protocol.messages import message

ROUTES = (
    *("/predict", "/invocations", "/v2/models/m/infer", "/v1/models/m:predict"),
    *("/v2/repository/index", "/v2/models/m/versions/1/infer"),
)
KINDS = ("application/json", "application/octet-stream", "text/csv", "text/plain", "")
MODELS: dict[str, Callable[[], bytes]] = {
    "linear": onnx_models.linear,
    "weighted": lambda: onnx_models.weighted(["a", "b", "c"]),
    "two inputs": onnx_models.two_inputs,
    "an input per column": onnx_models.input_per_column,
    "every datatype": onnx_models.every_datatype,
    "lookup": onnx_models.lookup,
}
VALID: list[Any] = [
    [1, 2, 3, 4],
    {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]},
    {"inputs": {"x": [[1, 2, 3, 4]]}},
    {"instances": [{"a": [1, 2, 3], "b": [1, 2, 3]}]},
    {"dataframe_split": {"columns": ["age", "name"], "data": [[1, "x"]]}},
    {"records": [{"a": 1, "b": 2, "c": 3}]},
    {"input": [0], "signature_name": "serving_default"},
    {
        "id": "1",
        "inputs": [
            {"name": "in_BF16", "shape": [1, 2], "datatype": "BF16", "data": [1.5, 2]},
            {
                "name": "in_INT64",
                "shape": [1, 2],
                "datatype": "INT64",
                "parameters": {"binary_data_size": 16},
            },
        ],
        "outputs": [{"name": "out_BF16", "parameters": {"binary_data": True}}],
        "parameters": {"timeout": 10_000_000},
    },
]
# A content encoding as it is named, and what packs a body that way.
Packing = tuple[str, Callable[[bytes], bytes]]
PACKINGS: tuple[Packing, ...] = (
    ("gzip", partial(gzip.compress, mtime=0)),
    ("deflate", zlib.compress),
    ("deflate", partial(zlib.compress, wbits=-zlib.MAX_WBITS)),
)
NOT_AS_NAMED: tuple[Packing, ...] = (("gzip", bytes), ("deflate", bytes), ("br", bytes))
MANY = examples(80)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["x", "a", "b", "FP32", "BYTES", "index", "NaN", 0, 1, -1, 2**31, 2**63])
)
documents = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(
            st.sampled_from(["x", "a", "inputs", "data", "shape"]) | st.text(max_size=5),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A valid body of some protocol with something else in one or two places."""
    document = json.loads(json.dumps(draw(st.sampled_from(VALID))))
    for _ in range(draw(st.integers(1, 2))):
        at = document
        while isinstance(at, (dict, list)) and at:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            key = draw(st.sampled_from(keys))
            if not isinstance(at[key], (dict, list)) or not at[key] or draw(st.booleans()):
                if draw(st.booleans()):
                    at[key] = draw(documents)
                else:
                    del at[key]
                break
            at = at[key]
    return document


def as_json(document: Any) -> bytes:
    return json.dumps(document).encode("utf-8", "surrogatepass")


bodies = st.one_of(
    st.binary(max_size=200),
    documents.map(as_json),
    mutated().map(as_json),
    st.tuples(mutated().map(as_json), st.binary(max_size=40)).map(b"".join),
    st.text(alphabet='a,b;"1\n\r.eE-NaN', max_size=60).map(str.encode),
)


@pytest.fixture(scope="module", params=MODELS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> InProcess:
    path = tmp_path_factory.mktemp("fuzz") / "model.onnx"
    path.write_bytes(MODELS[request.param]())
    return InProcess(path)


@MANY
@given(
    body=bodies,
    route=st.sampled_from(ROUTES),
    kind=st.sampled_from(KINDS),
    header_length=st.none() | st.integers(-5, 400) | st.text(alphabet="0123456789x ", max_size=5),
    packing=st.none() | st.sampled_from(PACKINGS) | st.sampled_from(NOT_AS_NAMED),
    changes=st.just([]) | mutations,
)
async def test_no_body_is_answered_with_a_defect(
    served: InProcess,
    body: bytes,
    route: str,
    kind: str,
    header_length: int | str | None,
    packing: Packing | None,
    changes: Sequence[tuple[float, bytes]],
) -> None:
    headers = {"content-type": kind} if kind else {}
    if header_length is not None:
        headers["inference-header-content-length"] = str(header_length)
    if packing is not None:
        headers["content-encoding"], pack = packing
        body = damaged(pack(body), changes)
    reply = await served.request("POST", route, body, headers)
    assert reply.status in (200, 400, 404, 413, 415, 422, 501), (reply.status, reply.body)
    if reply.status != 200:
        assert list(reply.json) == ["error"]
        assert reply.json["error"]


@pytest.mark.parametrize(("encoding", "pack"), PACKINGS)
async def test_a_packed_body_of_the_fuzzer_is_understood_where_nothing_is_damaged(
    encoding: str, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes(onnx_models.linear())
    headers = {"content-type": "application/json", "content-encoding": encoding}
    served = InProcess(tmp_path / "model.onnx")
    reply = await served.request("POST", "/predict", pack(b"[1, 2, 3, 4]"), headers)
    assert reply.status == 200, reply.body


def tensors() -> st.SearchStrategy[Any]:
    names = st.sampled_from(["x", "a", "b", "age", "name", "index", "in_FP16"]) | st.text(
        max_size=4
    )
    contents = st.builds(
        service_pb2.InferTensorContents,
        fp32_contents=st.lists(st.floats(width=32), max_size=5),
        int64_contents=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
        int_contents=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
        bytes_contents=st.lists(st.binary(max_size=4), max_size=3),
    )
    return st.builds(
        service_pb2.ModelInferRequest.InferInputTensor,
        name=names,
        datatype=st.sampled_from(["FP32", "INT64", "BYTES", "FP16", "BF16", "", "fp32"]),
        shape=st.lists(st.integers(-2, 5) | st.integers(-(2**63), 2**63 - 1), max_size=3),
        contents=contents,
    )


requests = st.builds(
    service_pb2.ModelInferRequest,
    model_name=st.sampled_from(["m", "m", "m", "other", ""]),
    model_version=st.sampled_from(["", "1", "9"]),
    inputs=st.lists(tensors(), max_size=3),
    raw_input_contents=st.lists(st.binary(max_size=20), max_size=3),
).map(lambda request: request.SerializeToString())


@MANY
@given(body=requests | st.binary(max_size=200))
async def test_no_message_is_answered_with_a_defect(served: InProcess, body: bytes) -> None:
    try:
        request = message("ModelInferRequest").FromString(body)
    except DecodeError:
        return
    try:
        await served.service.answer(lambda model: v2_grpc.decode(request, model), 0.0)
    except InferenceFailed:
        raise
    except RequestError:
        return


def test_a_server_keeps_to_its_own_openapi_document(tmp_path: Path) -> None:
    with Server(tmp_path / "s", onnx_models.two_inputs()) as server:
        server.start().wait_until_ready()
        tried = openapi(f"http://127.0.0.1:{server.port}", tmp_path, count=3)
    assert not tried.problem, tried.problem
    assert tried.cases > 100

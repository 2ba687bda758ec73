"""JSON, binary tensors and gRPC against `session.run` of ONNX Runtime itself.

For the batch that ran, answers are the same bit for bit; across batch sizes, within tolerance. Each
row carries a marker, which comes back beside its outputs.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from runtime_kit import onnx_models
from runtime_kit.process import Server

COLUMNS = 16
MODEL = onnx_models.marked_mlp(COLUMNS)
ROWS = {"JSON": 1, "binary": 3, "gRPC": 2, "predict": 2}
EXTRA = {"SLIPWAY_GRPC_PORT": "0", "SLIPWAY_INTRA_OP_THREADS": "1"}

Outputs = Mapping[str, Any]


def by_json(server: Server, x: Any) -> Outputs:
    tensor = {"name": "x", "shape": x.shape, "datatype": "FP32", "data": x.tolist()}
    outputs = server.post("/v2/models/m/infer", {"inputs": [tensor]}).json["outputs"]
    return {
        output["name"]: np.array(output["data"], np.float32).reshape(output["shape"])
        for output in outputs
    }


def by_predict(server: Server, x: Any) -> Outputs:
    answer = server.post("/predict", {"x": x.tolist()}).json
    return {name: np.array(values, np.float32) for name, values in answer.items()}


def by_binary(server: Server, x: Any) -> Outputs:
    with triton_http.InferenceServerClient(f"{server.host}:{server.port}") as client:
        return _by_triton(triton_http, client, x)


def by_grpc(server: Server, x: Any) -> Outputs:
    with triton_grpc.InferenceServerClient(server.grpc_address) as client:
        return _by_triton(triton_grpc, client, x)


def _by_triton(triton: Any, client: Any, x: Any) -> Outputs:
    tensor = triton.InferInput("x", x.shape, "FP32")
    tensor.set_data_from_numpy(x)
    result = client.infer("m", [tensor])
    return {name: result.as_numpy(name) for name in ("y", "marker")}


PROTOCOLS: dict[str, Callable[[Server, Any], Outputs]] = {
    "JSON": by_json,
    "binary": by_binary,
    "gRPC": by_grpc,
    "predict": by_predict,
}


@pytest.fixture(scope="module")
def session() -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])


def run(session: Any, x: Any) -> Outputs:
    return dict(zip(("y", "marker"), session.run(["y", "marker"], {"x": x}), strict=True))


def rows(count: int, marker: float, seed: int) -> Any:
    x = np.random.default_rng(seed).standard_normal((count, COLUMNS)).astype(np.float32)
    x[:, 0] = marker + np.arange(count) / 64
    return x


def same_bits(one: Outputs, other: Outputs) -> bool:
    return all(
        one[name].shape == other[name].shape and one[name].tobytes() == other[name].tobytes()
        for name in ("y", "marker")
    )


def check_each_row(session: Any, x: Any, got: Outputs) -> None:
    """Each row is what it is alone, within tolerance, and carries its own marker."""
    assert got["marker"].tolist() == x[:, :1].tolist()
    alone = np.concatenate([run(session, x[row : row + 1])["y"] for row in range(len(x))])
    np.testing.assert_allclose(got["y"], alone, rtol=1e-4, atol=1e-5)


# ---- requests that share a run ----


@pytest.fixture(scope="module")
def sharing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose batches are full once a request of each protocol has come, not before."""
    extra = {
        "SLIPWAY_MAX_BATCH_SIZE": str(sum(ROWS.values())),
        "SLIPWAY_MAX_BATCH_DELAY_MS": "30000",
    }
    with Server(tmp_path_factory.mktemp("sharing"), MODEL, extra=EXTRA | extra) as server:
        yield server.start().wait_until_ready()


def counters(server: Server) -> tuple[int, int]:
    """The runs so far, and the rows in them."""
    text = server.get("/metrics").body.decode()
    runs, count = (
        re.search(rf"^{name}{{.*}} (\d+)$", text, re.MULTILINE)
        for name in ("nv_inference_exec_count", "nv_inference_count")
    )
    assert runs is not None
    assert count is not None
    return int(runs[1]), int(count[1])


@pytest.mark.parametrize("round_number", range(6))
def test_requests_of_all_protocols_in_one_run_get_their_rows_of_it_bit_for_bit(
    sharing: Server, session: Any, round_number: int
) -> None:
    asked = {
        protocol: rows(ROWS[protocol], number + 1, 10 * round_number + number)
        for number, protocol in enumerate(PROTOCOLS)
    }
    runs, count = counters(sharing)
    with ThreadPoolExecutor(len(asked)) as clients:
        futures = {
            protocol: clients.submit(PROTOCOLS[protocol], sharing, x)
            for protocol, x in asked.items()
        }
        answers = {protocol: future.result(60) for protocol, future in futures.items()}
    assert counters(sharing) == (runs + 1, count + sum(ROWS.values()))
    assert any(
        same_bits(
            run(session, np.concatenate([asked[protocol] for protocol in order])),
            {
                name: np.concatenate([answers[protocol][name] for protocol in order])
                for name in ("y", "marker")
            },
        )
        for order in itertools.permutations(asked)
    )
    for protocol, x in asked.items():
        check_each_row(session, x, answers[protocol])


# ---- one request in a run ----


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("alone"), MODEL, extra=EXTRA) as server:
        yield server.start().wait_until_ready()


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 33, 128])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_protocol_answers_as_a_run_of_the_same_rows_does_bit_for_bit(
    server: Server, session: Any, protocol: str, count: int
) -> None:
    x = rows(count, 1, count)
    got = PROTOCOLS[protocol](server, x)
    assert same_bits(got, run(session, x))
    check_each_row(session, x, got)

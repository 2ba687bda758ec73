"""`slipway-runtime serve` as a pod runs it, over HTTP."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from runtime_kit import imitation_openvino, onnx_models
from runtime_kit.process import Server, digest_of, send

V2 = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
# What the kubelet gives a probe that says nothing of its time.
KUBELET_SECONDS = 1


def test_every_answer_names_the_digest_and_the_request(linear_server: Server) -> None:
    version = linear_server.digest.removeprefix("sha256:")[:12]
    for reply in (
        linear_server.get("/v2"),
        linear_server.get("/nowhere"),
        linear_server.post("/predict", [1, 2, 3, 4]),
        linear_server.post("/predict", b"{"),
    ):
        assert reply.headers["slipway-model-digest"] == linear_server.digest
        assert len(reply.headers["x-request-id"]) == 16
    reply = linear_server.post("/v2/models/m/infer", V2, {"x-request-id": "mine-1"})
    assert reply.headers["x-request-id"] == "mine-1"
    assert reply.json["model_version"] == version


def test_a_request_id_that_is_no_token_is_not_repeated(linear_server: Server) -> None:
    for value in ("x" * 200, "caf\xe9"):
        reply = linear_server.request("GET", "/v2", headers={"x-request-id": value})
        assert len(reply.headers["x-request-id"]) == 16


def test_health_routes_say_who_serves(linear_server: Server) -> None:
    assert linear_server.get("/v2/health/live").json == {"live": True}
    assert linear_server.get("/v2/health/ready").json == {"ready": True, "phase": "ready"}
    assert linear_server.get("/v2/models/m/ready").json["ready"] is True
    health = linear_server.get("/health").json
    assert health.pop("phase_seconds") >= 0
    assert health == {
        "status": "ok",
        "phase": "ready",
        "model": "m",
        "version": linear_server.digest[7:19],
        "digest": linear_server.digest,
        "providers": ["CPUExecutionProvider"],
        "passed_over": {},
    }
    assert linear_server.get("/v2").json["name"] == "slipway-runtime"


@pytest.mark.parametrize("version", ["", "/versions/1", "/versions/{version}", "/versions/"])
def test_the_model_answers_under_each_form_of_its_version(
    linear_server: Server, version: str
) -> None:
    base = "/v2/models/m" + version.format(version=linear_server.digest[7:19])
    assert linear_server.get(base).json["name"] == "m"
    assert linear_server.get(f"{base}/ready").status == 200
    assert linear_server.get(f"{base}/config").json["name"] == "m"
    assert linear_server.get(f"{base}/stats").json["model_stats"][0]["name"] == "m"
    assert linear_server.post(f"{base}/infer", V2).json["outputs"][0]["data"] == [41, 51]


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "message"),
    [
        ("GET", "/nowhere", None, {}, 404, "no route '/nowhere'"),
        ("GET", "/v2/models/n", None, {}, 404, "no model 'n' here, only 'm'"),
        ("POST", "/v2/models/m/versions/7/infer", b"{}", {}, 404, "no version '7'"),
        ("GET", "/predict", None, {}, 405, "takes POST, not GET"),
        ("POST", "/v2", b"", {}, 405, "takes GET, HEAD, not POST"),
        ("POST", "/predict", b"[1]", {"content-type": "text/csv"}, 415, "text/csv"),
        ("POST", "/predict", b"[1]", {"content-encoding": "br"}, 415, "gzip, deflate"),
        ("POST", "/predict", b"{", {}, 400, "not JSON"),
        ("POST", "/predict", b"[1, 2]", {}, 400, "dimension 1 must be 4, not 2"),
        ("POST", "/predict", b"[" + b"1," * 100_000 + b"1]", {}, 413, "limit of 100000 bytes"),
    ],
)
def test_what_cannot_be_answered_has_a_status_and_a_sentence(
    linear_server: Server,
    method: str,
    path: str,
    body: bytes | None,
    headers: dict[str, str],
    status: int,
    message: str,
) -> None:
    reply = linear_server.request(method, path, body, headers)
    assert reply.status == status
    assert list(reply.json) == ["error"]
    assert message in reply.json["error"]
    if status == 405:
        assert reply.headers["allow"] in reply.json["error"]


def test_a_chunked_body_above_the_limit_is_refused_too(linear_server: Server) -> None:
    connection = linear_server.connect()
    connection.request("POST", "/predict", iter([b"1" * 60_000] * 2), {"te": "x"})
    assert connection.getresponse().status == 413
    connection.close()


def test_curl_without_a_content_type_is_understood(linear_server: Server) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert linear_server.request("POST", "/predict", b"[1,2,3,4]", form).json == {"y": [41, 51]}
    assert linear_server.request("POST", "/predict", b"[1,2,3,4]").json == {"y": [41, 51]}


def test_head_is_answered_without_a_body(linear_server: Server) -> None:
    reply = linear_server.request("HEAD", "/v2/health/ready")
    assert (reply.status, reply.body) == (200, b"")


def test_a_connection_is_kept_through_errors(linear_server: Server) -> None:
    connection = linear_server.connect()
    for body, status in ((b"{", 400), (b"[1,2,3,4]", 200), (b"[1]", 400), (b"[1,2,3,4]", 200)):
        assert send(connection, "POST", "/predict", body).status == status
        assert connection.sock is not None
    connection.close()


def samples(text: str) -> dict[str, float]:
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if not line.startswith("#")
    }


def test_metrics_have_tritons_names_and_count(linear_server: Server) -> None:
    labels = f'{{model="m",version="{linear_server.digest[7:19]}"}}'

    def read() -> dict[str, float]:
        return samples(linear_server.get("/metrics").body.decode())

    before = read()
    linear_server.post("/predict", [[1, 2, 3, 4]] * 5)
    linear_server.post("/predict", [1])
    after = read()

    def grew(name: str) -> float:
        return after[name + labels] - before[name + labels]

    assert grew("nv_inference_request_success") == 1
    assert grew("nv_inference_request_failure") == 1
    assert grew("nv_inference_count") == 5
    assert grew("nv_inference_exec_count") == 1
    for part in ("request", "queue", "compute_input", "compute_infer", "compute_output"):
        assert grew(f"nv_inference_{part}_duration_us") >= 0
    assert grew("nv_inference_request_duration_us") > 0
    bucket = f"slipway_batch_size_bucket{labels[:-1]}"
    grown = [
        after[f'{bucket},le="{bound}"}}'] - before[f'{bucket},le="{bound}"}}']
        for bound in (4, 8, "+Inf")
    ]
    assert grown == [0, 1, 1]
    assert (grew("slipway_batch_size_sum"), grew("slipway_batch_size_count")) == (5, 1)
    assert after[f"nv_inference_pending_request_count{labels}"] == 0
    info = [name for name in after if name.startswith("slipway_model_info")]
    assert len(info) == 1
    assert f'digest="{linear_server.digest}"' in info[0]
    for phase in ("verifying", "loading", "warming"):
        assert any(f'phase="{phase}"' in name for name in after)
    assert after['slipway_http_responses_total{code="400"}'] >= 1


def test_outputs_that_are_not_finite_are_422_and_never_null(tmp_path: Path) -> None:
    with Server(tmp_path, onnx_models.logarithm()) as server:
        server.start().wait_until_ready()
        reply = server.post("/predict", {"x": [[1, -1, 0]]})
        assert reply.status == 422
        assert "output 'y' holds 2 of 3 values" in reply.json["error"]
        assert server.post("/predict", {"x": [[1, 1]]}).json == {"y": [[0, 0]]}


def damaged() -> bytes:
    content = onnx_models.linear()
    return content[:-20]


@pytest.mark.parametrize(
    ("make", "code", "reason", "message"),
    [
        (lambda: b"not a model at all", 21, "InvalidModel", "refuses the model"),
        (lambda: b"", 21, "InvalidModel", "No graph"),
        (damaged, 21, "InvalidModel", "refuses the model"),
        (onnx_models.duplicate_output, 21, "InvalidModel", "refuses the model"),
        (
            lambda: onnx_models.sequence_output(also_tensor=False),
            21,
            "InvalidModel",
            "zipmap=False",
        ),
        (onnx_models.sequence_input, 21, "InvalidModel", "input 's' is seq(tensor(float))"),
        (onnx_models.optional_input, 21, "InvalidModel", "input 'o' is optional(tensor(float))"),
        (lambda: onnx_models.linear(opset=99), 22, "UnsupportedOpset", "Opset 99"),
        (lambda: onnx_models.linear(ir_version=99), 22, "UnsupportedOpset", "IR version: 99"),
        (
            lambda: onnx_models.lower_case("xx_XX.UTF-8"),
            21,
            "InvalidModel",
            "with the locale C.UTF-8",
        ),
        (onnx_models.fails_when_warm, 25, "WarmupFailed", "a first run on zeros"),
    ],
)
def test_a_model_that_cannot_be_served_ends_the_process_with_its_reason(
    tmp_path: Path, make: Callable[[], bytes], code: int, reason: str, message: str
) -> None:
    with Server(tmp_path, make()) as server:
        ended = server.start().wait_for_end(20)
    assert (ended.code, ended.termination["reason"]) == (code, reason)
    assert message in ended.termination["message"]
    assert "onnxruntime_src" not in ended.termination["message"]
    assert "phase ready" not in ended.log


def test_a_required_provider_that_is_missing_ends_the_process(tmp_path: Path) -> None:
    extra = {"SLIPWAY_PROVIDERS": "CUDAExecutionProvider,CPUExecutionProvider"}
    with Server(tmp_path, onnx_models.linear(), extra=extra) as server:
        ended = server.start().wait_for_end(20)
    assert (ended.code, ended.termination["reason"]) == (40, "ProviderUnavailable")
    assert "CUDAExecutionProvider" in ended.termination["message"]
    assert "phase ready" not in ended.log


def test_a_cache_that_was_changed_is_never_loaded(tmp_path: Path) -> None:
    digest = digest_of(onnx_models.linear())
    with Server(tmp_path, onnx_models.linear(bias=2.0), digest=digest) as server:
        ended = server.start().wait_for_end(20)
    assert (ended.code, ended.termination["reason"]) == (20, "DigestMismatch")
    assert ended.termination["expected"] == digest
    assert ended.termination["actual"] == digest_of(onnx_models.linear(bias=2.0))
    assert "phase loading" not in ended.log


def test_an_empty_cache_says_that_fetch_must_run_first(tmp_path: Path) -> None:
    with Server(tmp_path, onnx_models.linear()) as server:
        entry = tmp_path / "cache" / "sha256" / server.digest[7:] / "model.onnx"
        entry.unlink()
        ended = server.start().wait_for_end(20)
    assert (ended.code, ended.termination["reason"]) == (30, "ArtifactNotFound")


def test_a_port_in_use_is_named(tmp_path: Path, linear_server: Server) -> None:
    extra = {"SLIPWAY_PORT": str(linear_server.port)}
    with Server(tmp_path, onnx_models.linear(), extra=extra) as server:
        ended = server.start().wait_for_end(20)
    assert (ended.code, ended.termination["reason"]) == (2, "InvalidArguments")
    assert "SLIPWAY_PORT" in ended.termination["message"]


def large_file(server: Server) -> None:
    """Let the verification take a while: a sparse gigabyte under the digest's name."""
    path = server.folder / "cache" / "sha256" / server.digest[7:] / "model.onnx"
    with path.open("r+b") as file:
        file.truncate(1_000_000_000)


def test_while_loading_it_lives_and_says_the_phase(tmp_path: Path) -> None:
    with Server(tmp_path, onnx_models.linear()) as server:
        large_file(server)
        server.start().wait_for_port()
        assert server.get("/v2/health/live").status == 200
        ready = server.get("/v2/health/ready")
        assert (ready.status, ready.json) == (503, {"ready": False, "phase": "verifying"})
        assert "retry-after" in ready.headers
        health = server.get("/health")
        assert (health.status, health.json["status"]) == (503, "loading")
        for path in ("/predict", "/v2/models/m/infer"):
            reply = server.post(path, [1])
            assert reply.status == 503
            assert "verifying" in reply.json["error"]
        assert b"slipway_model_ready" in server.get("/metrics").body


def test_while_a_provider_compiles_it_lives_and_says_for_how_long(tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    extra = {"SLIPWAY_PROVIDERS": imitation_openvino.NAME, "IMITATION_HOLD": str(hold)}
    with Server(
        tmp_path, onnx_models.linear(), extra=extra, program=imitation_openvino.PROGRAM
    ) as server:
        server.start().wait_for_port()
        server.wait_for_log("phase loading")
        began = time.monotonic()
        seconds = [0.0]
        while seconds[-1] < 1.5:
            assert server.get("/v2/health/live").status == 200
            ready = server.get("/v2/health/ready")
            assert (ready.status, ready.json) == (503, {"ready": False, "phase": "loading"})
            health = server.get("/health").json
            assert (health["status"], health["phase"]) == ("loading", "loading")
            assert health["phase_seconds"] >= seconds[-1]
            seconds.append(health["phase_seconds"])
            assert time.monotonic() - began < 20
        assert server.get("/v2/health/live").status == 200
        hold.unlink()
        server.wait_until_ready()
        assert server.get("/health").json["phase"] == "ready"
        assert loading_seconds(server) >= 1.5


def loading_seconds(server: Server) -> float:
    page = samples(server.get("/metrics").body.decode())
    (seconds,) = (page[name] for name in page if 'phase="loading"' in name)
    return seconds


def test_sigterm_while_loading_ends_at_once(tmp_path: Path) -> None:
    with Server(tmp_path, onnx_models.linear()) as server:
        large_file(server)
        server.start().wait_for_port()
        started = time.monotonic()
        server.terminate()
        assert server.wait_for_end(5).code == 0
        assert time.monotonic() - started < 1.5


@pytest.fixture
def busy_server(tmp_path: Path) -> Any:
    extra = {
        "SLIPWAY_MAX_QUEUE": "2",
        "SLIPWAY_INTRA_OP_THREADS": "1",
        "SLIPWAY_GRPC_PORT": "0",
    }
    with Server(tmp_path, onnx_models.busy(), extra=extra) as server:
        yield server.start().wait_until_ready()


def rounds_for(server: Server, seconds: float) -> int:
    """How many rounds of the busy model take so long on this machine."""
    rounds = 200
    while True:
        started = time.monotonic()
        server.post("/predict", {"rounds": [rounds]})
        elapsed = time.monotonic() - started
        if elapsed > 0.2:
            return int(rounds * seconds / elapsed)
        rounds *= 2


def test_every_probe_answers_within_50_ms_during_a_long_inference(busy_server: Server) -> None:
    """As the kubelet asks: over a new connection each time; gRPC over the one of its client.

    One in ten may be late, since others use this machine too, but none so late as to fail.
    """
    rounds = {"name": "rounds", "shape": [1], "datatype": "INT64", "data": [10**8]}
    five_seconds = {"inputs": [rounds], "parameters": {"timeout": 5_000_000}}
    ended: list[int] = []
    inference = threading.Thread(
        target=lambda: ended.append(busy_server.post("/v2/models/m/infer", five_seconds).status)
    )
    paths = ("/v2/health/live", "/v2/health/ready", "/health")
    with grpc.insecure_channel(busy_server.grpc_address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check

        def ask_http(path: str) -> bool:
            return busy_server.get(path).status == 200

        def ask_grpc() -> bool:
            answer = check(health_pb2.HealthCheckRequest(), timeout=KUBELET_SECONDS)
            return answer.status == health_pb2.HealthCheckResponse.SERVING

        probes = {path: partial(ask_http, path) for path in paths} | {"gRPC": ask_grpc}
        times: dict[str, list[float]] = {name: [] for name in probes}
        assert ask_grpc()
        inference.start()
        while inference.is_alive():
            for name, ask in probes.items():
                started = time.monotonic()
                assert ask(), name
                times[name].append(time.monotonic() - started)
            inference.join(0.02)
    assert ended == [504]
    for name, took in times.items():
        took.sort()
        seen = f"{name}: {len(took)} times, median {median(took):.4f} s, at most {took[-1]:.4f} s"
        assert len(took) >= 10, seen
        assert median(took) < 0.025, seen
        assert took[int(len(took) * 0.9)] < 0.05, seen
        assert took[-1] < KUBELET_SECONDS, seen


def test_a_deadline_is_504_and_frees_the_model(busy_server: Server) -> None:
    rounds = {"name": "rounds", "shape": [1], "datatype": "INT64", "data": [10**8]}
    body = {"inputs": [rounds], "parameters": {"timeout": 300_000}}
    started = time.monotonic()
    reply = busy_server.post("/v2/models/m/infer", body)
    assert reply.status == 504
    assert "0.3 s passed while running" in reply.json["error"]
    assert busy_server.post("/predict", {"rounds": [1]}).status == 200
    assert time.monotonic() - started < 3


def test_a_client_that_leaves_takes_its_run_along(busy_server: Server) -> None:
    connection = busy_server.connect()
    connection.request("POST", "/predict", json.dumps({"rounds": [10**8]}))
    time.sleep(0.3)
    connection.close()
    started = time.monotonic()
    assert busy_server.post("/predict", {"rounds": [1]}).status == 200
    assert time.monotonic() - started < 3


def test_concurrent_requests_share_runs_and_each_gets_its_own_rows(tmp_path: Path) -> None:
    extra = {"SLIPWAY_MAX_BATCH_SIZE": "16", "SLIPWAY_MAX_BATCH_DELAY_MS": "5"}
    with Server(tmp_path, onnx_models.identity(), extra=extra) as server:
        server.start().wait_until_ready()
        config = server.get("/v2/models/m/config").json
        assert config["max_batch_size"] == 16
        assert config["input"][0]["dims"] == [-1]
        wrong: list[object] = []

        def ask(client: int) -> None:
            connection = server.connect()
            for number in range(30):
                rows = [[client + 0.5, number]] * (1 + number % 3)
                reply = send(connection, "POST", "/predict", json.dumps(rows).encode())
                if reply.json != {"y": rows}:
                    wrong.append(reply)
            connection.close()

        clients = [threading.Thread(target=ask, args=(client,)) for client in range(8)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        assert not wrong
        (stats,) = server.get("/v2/models/m/stats").json["model_stats"]
        assert stats["inference_count"] == 8 * 60
        assert stats["execution_count"] < 8 * 30


def test_more_than_the_queue_holds_is_refused_with_retry_after(busy_server: Server) -> None:
    rounds = rounds_for(busy_server, 1.0)
    statuses: list[int] = []
    headers: list[dict[str, str]] = []

    def ask() -> None:
        reply = busy_server.post("/predict", {"rounds": [rounds]})
        statuses.append(reply.status)
        headers.append(reply.headers)

    clients = [threading.Thread(target=ask) for _ in range(6)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert sorted(statuses) == [200, 200, 200, 429, 429, 429]
    assert all(
        header.get("retry-after") == "1"
        for header, status in zip(headers, statuses, strict=True)
        if status == 429
    )


def test_what_is_refused_for_want_of_room_is_not_even_decoded(busy_server: Server) -> None:
    rounds = rounds_for(busy_server, 2.0)
    clients = [
        threading.Thread(target=busy_server.post, args=("/predict", {"rounds": [rounds]}))
        for _ in range(3)
    ]
    for client in clients:
        client.start()
    deadline = time.monotonic() + 5
    while (status := busy_server.request("POST", "/predict", b"{").status) == 400:
        assert time.monotonic() < deadline
    assert status == 429
    for client in clients:
        client.join()
    assert busy_server.request("POST", "/predict", b"{").status == 400


def test_who_did_not_wait_for_the_answer_is_logged_and_counted(tmp_path: Path) -> None:
    extra = {"SLIPWAY_ACCESS_LOG": "true"}
    with Server(tmp_path, onnx_models.busy(), extra=extra) as server:
        server.start().wait_until_ready()
        body = json.dumps({"rounds": [10**8]}).encode()
        head = f"POST /predict HTTP/1.1\r\nhost: h\r\ncontent-length: {len(body)}\r\n"
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(f"{head}x-request-id: gone\r\n\r\n".encode() + body)
            client.shutdown(socket.SHUT_WR)
        (line,) = [line for line in server.wait_for_log("gone") if "gone" in line]
        assert json.loads(line)["message"] == "POST /predict 499"
        assert b'slipway_http_responses_total{code="499"} 1' in server.get("/metrics").body


def test_the_access_log_carries_the_request_id(tmp_path: Path) -> None:
    extra = {"SLIPWAY_ACCESS_LOG": "true"}
    with Server(tmp_path, onnx_models.linear(), extra=extra) as server:
        server.start().wait_until_ready()
        server.post("/predict", [1, 2, 3, 4], {"x-request-id": "find-me"})
        lines = [json.loads(line) for line in server.wait_for_log("find-me")]
    (line,) = [line for line in lines if line.get("request_id") == "find-me"]
    assert line["message"] == "POST /predict 200"
    assert line["milliseconds"] > 0
    assert (line["digest"], line["bytes"]) == (server.digest, len(b'{"y":[41.0,51.0]}'))


@pytest.mark.parametrize("inline", ["500", "0"])
def test_values_that_the_model_cannot_take_leave_no_line_in_the_log(
    tmp_path: Path, inline: str
) -> None:
    extra = {"SLIPWAY_INLINE_MICROSECONDS": inline}
    with Server(tmp_path, onnx_models.lookup(), extra=extra) as server:
        before = server.start().wait_until_ready().wait_for_log("phase ready")
        assert server.post("/predict", {"index": [0, 99]}).status == 400
        assert server.log.splitlines() == before


def test_a_path_makes_no_lines_of_its_own_in_the_access_log(tmp_path: Path) -> None:
    extra = {"SLIPWAY_ACCESS_LOG": "true", "SLIPWAY_LOG_FORMAT": "text"}
    with Server(tmp_path, onnx_models.linear(), extra=extra) as server:
        server.start().wait_until_ready()
        connection = server.connect()
        connection.request("GET", "/%0A12:00:00%20INFO%20forged%1b[2J")
        connection.getresponse().read()
        connection.close()
        server.terminate()
        log = server.wait_for_end().log
    assert r"GET /\n12:00:00 INFO forged\x1b[2J 404" in log


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_no_line_of_the_access_log_is_lost_at_the_end(tmp_path: Path, log_format: str) -> None:
    extra = {"SLIPWAY_ACCESS_LOG": "true", "SLIPWAY_LOG_FORMAT": log_format}
    paths = [f'/no/{number}\u00e9"' for number in range(600)]
    with Server(tmp_path, onnx_models.linear(), extra=extra) as server:
        server.start().wait_until_ready()
        connection = server.connect()
        for path in paths:
            connection.request("GET", quote(path))
            connection.getresponse().read()
        connection.request("GET", "/%ff")
        connection.getresponse().read()
        connection.close()
        server.terminate()
        ended = server.wait_for_end()
    told = [line for line in ended.log.splitlines() if "GET /no/" in line]
    if log_format == "json":
        assert [json.loads(line)["message"] for line in told] == [f"GET {p} 404" for p in paths]
    else:
        assert all(
            f"GET {path} 404  (request_id=" in line for path, line in zip(paths, told, strict=True)
        )
    assert len(told) == len(paths)
    assert "GET /\N{REPLACEMENT CHARACTER} 404" in ended.log


@pytest.mark.parametrize("name", ["", "a/b", "a model", "-m", "m\n"])
def test_a_name_that_no_route_could_have_is_refused(tmp_path: Path, name: str) -> None:
    with Server(tmp_path, onnx_models.linear(), name=name) as server:
        ended = server.start().wait_for_end()
    assert (ended.code, ended.termination["reason"]) == (2, "InvalidArguments")
    assert "is not a model name" in ended.termination["message"]

"""Several workers behind one port: for who asks, for Kubernetes and for Prometheus they are one."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families
from runtime_kit import onnx_models
from runtime_kit.process import Server, send
from tritonclient.grpc import service_pb2, service_pb2_grpc

from slipway_runtime.server import totals
from slipway_runtime.server.crew import LARGE_BYTES, Crew, after_trial, crew_of, variables_of
from slipway_runtime.settings import ServeSettings

ROW = b"[1,2,3,4]"
TWO = {"SLIPWAY_WORKERS": "2"}


def until(condition: Callable[[], bool], server: Server, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, server.log
        time.sleep(0.02)


def entries(server: Server) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.log.splitlines()]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    extra = TWO | {"SLIPWAY_ACCESS_LOG": "true", "SLIPWAY_GRPC_PORT": "0"}
    with Server(tmp_path_factory.mktemp("pair"), onnx_models.linear(), extra=extra) as server:
        yield server.start().wait_until_ready()
        server.terminate()
        assert server.wait_for_end().code == 0


def worker_of(server: Server, *ids: str) -> dict[str, int]:
    """Which worker has answered the requests of these ids, by its lines in the access log."""
    found = dict[str, int]()
    for wanted in ids:
        for line in server.wait_for_log(f'"{wanted}"'):
            entry = json.loads(line)
            if entry.get("request_id") == wanted:
                found[wanted] = entry["worker"]
    return found


def test_connections_go_to_the_worker_that_has_the_fewest(pair: Server) -> None:
    with contextlib.ExitStack() as stack:
        kept = [stack.enter_context(contextlib.closing(pair.connect())) for _ in range(8)]
        for number, connection in enumerate(kept):
            reply = send(connection, "POST", "/predict", ROW, {"x-request-id": f"even-{number}"})
            assert (reply.status, reply.json) == (200, {"y": [41, 51]})
        told = worker_of(pair, *(f"even-{number}" for number in range(8)))
        assert Counter(told.values()) == {0: 4, 1: 4}
        # Those of one worker end; the next are given to it.
        (first,) = {told[f"even-{number}"] for number in range(0, 8, 2)}
        for connection in kept[::2]:
            connection.close()
        time.sleep(0.2)
        for number in range(4):
            connection = stack.enter_context(contextlib.closing(pair.connect()))
            send(connection, "POST", "/predict", ROW, {"x-request-id": f"next-{number}"})
        told = worker_of(pair, *(f"next-{number}" for number in range(4)))
        assert set(told.values()) == {first}


def counted(server: Server, name: str) -> float:
    page = server.get("/metrics").body.decode()
    (line,) = (line for line in page.splitlines() if line.startswith(name))
    return float(line.rpartition(" ")[2])


def test_metrics_and_statistics_are_of_all_workers_whichever_answers(pair: Server) -> None:
    before = counted(pair, "nv_inference_request_success")
    for _ in range(10):
        assert pair.post("/predict", ROW).status == 200
    with grpc.insecure_channel(pair.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for _ in range(4):  # over new connections and so by either worker
            assert counted(pair, "nv_inference_request_success") == before + 10
            assert counted(pair, "slipway_request_duration_seconds_count") == before + 10
            (model,) = pair.get("/v2/models/m/stats").json["model_stats"]
            assert model["inference_stats"]["success"]["count"] == before + 10
            asked = service_pb2.ModelStatisticsRequest(name="m")
            (model,) = stub.ModelStatistics(asked).model_stats
            assert model.inference_count == before + 10
    families = text_string_to_metric_families(pair.get("/metrics").body.decode())
    values = {sample.name: sample.value for family in families for sample in family.samples}
    assert (values["slipway_model_ready"], values["slipway_model_info"]) == (1, 1)
    resident = sum(
        int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        for pid in pair.children()
    )
    assert values["process_resident_memory_bytes"] == pytest.approx(resident, rel=0.05)


def sockets_of(pid: int) -> set[str]:
    links = set[str]()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            links.add(str(descriptor.readlink()))
    return links


def test_connections_of_grpc_are_spread_over_them(pair: Server) -> None:
    port = int(pair.grpc_address.split(":")[1])
    with contextlib.ExitStack() as open_channels:
        for _ in range(6):
            options = [("grpc.use_local_subchannel_pool", 1)]
            channel = open_channels.enter_context(grpc.insecure_channel(pair.grpc_address, options))
            ask = service_pb2_grpc.GRPCInferenceServiceStub(channel).ServerReady
            assert ask(service_pb2.ServerReadyRequest()).ready
        fields = [
            line.split()
            for table in ("/proc/net/tcp", "/proc/net/tcp6")
            if Path(table).exists()
            for line in Path(table).read_text().splitlines()[1:]
        ]
        established = {
            f"socket:[{inode}]"
            for _, local, _, state, _, _, _, _, _, inode, *_ in fields
            if (local.endswith(f":{port:04X}"), state) == (True, "01")
        }
        assert [len(established & sockets_of(pid)) for pid in pair.children()] == [3, 3]


def test_ready_is_said_when_the_last_is_warm(tmp_path: Path) -> None:
    with Server(tmp_path, onnx_models.linear(), extra=TWO) as server:
        server.start()
        until(lambda: len(server.children()) == 2, server)
        last = server.children()[1]
        os.kill(last, signal.SIGSTOP)
        try:
            server.wait_for_port().wait_for_log("the model is warm")
            assert server.get("/v2/health/live").status == 200
            assert server.get("/v2/health/ready").status == 503
            assert server.post("/predict", ROW).status == 503
        finally:
            os.kill(last, signal.SIGCONT)
        server.wait_until_ready()
        assert server.log.count("the model is warm") == 2


def test_a_failure_of_one_is_the_failure_of_all(tmp_path: Path) -> None:
    with Server(tmp_path, onnx_models.duplicate_output(), extra=TWO) as server:
        ended = server.start().wait_for_end()
        assert (ended.code, ended.termination["reason"]) == (21, "InvalidModel")
        assert server.children() == []


def readiness(server: Server) -> int:
    """The status of the probe, 0 for one that went to the worker that was ending."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        return server.get("/v2/health/ready").status
    return 0


def test_when_one_crashes_the_others_finish_and_the_code_tells(tmp_path: Path) -> None:
    extra = TWO | {"SLIPWAY_DRAIN_DELAY_SECONDS": "0.5"}
    with Server(tmp_path, onnx_models.linear(), extra=extra) as server:
        server.start().wait_until_ready()
        kept = [server.connect(), server.connect()]
        for connection in kept:
            assert send(connection, "POST", "/predict", ROW).status == 200
        workers = server.children()
        os.kill(workers[0], signal.SIGKILL)
        until(lambda: len(server.children()) == 1, server)
        until(lambda: readiness(server) == 503, server)
        statuses = list[int]()
        for connection in kept:
            with (
                contextlib.suppress(OSError, http.client.HTTPException),
                contextlib.closing(connection),
            ):
                statuses.append(send(connection, "POST", "/predict", ROW).status)
        assert statuses == [200]
        ended = server.wait_for_end()
        assert (ended.code, ended.termination) == (128 + signal.SIGKILL, {})
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_one_that_hangs_is_ended_and_named(tmp_path: Path) -> None:
    impatient = (
        "from slipway_runtime.server import supervisor as s; s._BEAT_SECONDS = 0.05;"
        "from slipway_runtime.cli import main; main()"
    )
    program = (sys.executable, "-c", impatient)
    with Server(tmp_path, onnx_models.linear(), extra=TWO, program=program) as server:
        server.start().wait_until_ready()
        os.kill(server.children()[1], signal.SIGSTOP)
        ended = server.wait_for_end()
    assert (ended.code, ended.termination["reason"]) == (1, "InternalError")
    assert "worker 1 has not answered" in ended.termination["message"]


def test_no_worker_outlives_its_supervisor(tmp_path: Path) -> None:
    with Server(tmp_path, onnx_models.linear(), extra=TWO) as server:
        server.start().wait_until_ready()
        workers = server.children()
        server.process.kill()
        server.process.wait()
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), server)


def test_the_shares_are_of_what_the_settings_allow(tmp_path: Path) -> None:
    """One worker has a queue of one, so of two runs at once on it the third request is refused."""
    extra = TWO | {"SLIPWAY_MAX_QUEUE": "2", "SLIPWAY_INTRA_OP_THREADS": "1"}
    with Server(tmp_path, onnx_models.busy(), extra=extra) as server:
        server.start().wait_until_ready()
        statuses = list[int]()

        def ask() -> None:
            statuses.append(server.post("/predict", {"rounds": [1500]}).status)

        clients = [threading.Thread(target=ask) for _ in range(8)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
    assert Counter(statuses) == {200: 4, 429: 4}


def settings(workers: object = "auto", threads: int = 0) -> ServeSettings:
    return ServeSettings.model_validate({"workers": workers, "intra_op_threads": threads})


@pytest.mark.parametrize(
    ("given", "cpus", "size", "crew"),
    [
        pytest.param(settings(1), 8, 0, Crew(1, 8), id="one has all threads"),
        pytest.param(settings(1, 16), 8, 0, Crew(1, 16), id="one has as many as asked for"),
        pytest.param(settings(4), 8, 0, Crew(4, 2), id="several share the CPUs"),
        pytest.param(settings(3), 8, 0, Crew(3, 2), id="rounded down"),
        pytest.param(settings(4, 4), 8, 0, Crew(2, 4), id="threads asked for leave fewer workers"),
        pytest.param(settings(4, 16), 8, 0, Crew(1, 16), id="and at last one"),
        pytest.param(settings(8), 2, 0, Crew(2, 1), id="no more workers than CPUs"),
        pytest.param(settings(8), 1, 0, Crew(1, 1), id="on one CPU there is one"),
        pytest.param(settings(), 4, 0, Crew(4, 1, on_trial=True), id="auto measures first"),
        pytest.param(settings("auto", 2), 4, 0, Crew(2, 2, on_trial=True), id="auto, 2 threads"),
        pytest.param(settings(), 1, 0, Crew(1, 1), id="auto on one CPU"),
        pytest.param(settings(), 4, LARGE_BYTES + 1, Crew(1, 4), id="auto with a large model"),
        pytest.param(settings(4), 4, LARGE_BYTES + 1, Crew(4, 1), id="what is asked for holds"),
    ],
)
def test_threads_times_workers_are_never_more_than_the_cpus(
    given: ServeSettings, cpus: int, size: int, crew: Crew
) -> None:
    assert crew_of(given, cpus, size) == crew
    assert crew.workers == 1 or crew.workers * crew.threads <= cpus


@pytest.mark.parametrize(
    ("milliseconds", "cpus", "crew"),
    [(0.02, 2, Crew(2, 1)), (0.4, 2, Crew(2, 1)), (0.6, 2, Crew(1, 2)), (0.6, 4, Crew(4, 1))],
)
def test_auto_is_one_worker_where_the_run_takes_the_time(
    milliseconds: float, cpus: int, crew: Crew
) -> None:
    trial = crew_of(settings(), cpus, 0)
    assert after_trial(trial, settings(), cpus, milliseconds / 1000) == crew


@pytest.mark.parametrize(
    ("content", "workers"), [(onnx_models.linear(), 2), (onnx_models.dense(1024, 24), 1)]
)
def test_auto_measures_the_model_that_it_has(tmp_path: Path, content: bytes, workers: int) -> None:
    extra = {"SLIPWAY_WORKERS": "auto"}
    with Server(tmp_path, content, extra=extra) as server:
        server.start().wait_until_ready()
        (ready,) = (e for e in entries(server) if e["message"].startswith("ready with"))
        assert ready["message"] == f"ready with {workers} workers"
        assert ready["threads"] == 3 - workers
        assert len(server.children()) == (workers)


def test_shares_are_rounded_up() -> None:
    share = variables_of(Crew(3, 2), ServeSettings())
    assert share == {
        "SLIPWAY_INTRA_OP_THREADS": "2",
        "SLIPWAY_MAX_QUEUE": "86",
        "SLIPWAY_MAX_BODIES_BYTES": str(256 * 1024 * 1024 // 3 + 1),
        "SLIPWAY_MAX_CONNECTIONS": "1366",
    }


def test_pages_of_metrics_are_added_series_by_series() -> None:
    one = b'# HELP a x\n# TYPE a counter\na{c="200"} 1\n# TYPE b gauge\nb 0.5\n'
    other = b'# HELP a x\n# TYPE a counter\na{c="200"} 2\na{c="503"} 4\n# TYPE b gauge\nb 0.25\n'
    assert totals.of_pages([one, other]).decode().splitlines() == [
        *("# HELP a x", "# TYPE a counter", 'a{c="200"} 3', 'a{c="503"} 4'),
        *("# TYPE b gauge", "b 0.75"),
    ]


def test_statistics_are_added_by_batch_size() -> None:
    def statistics(count: int, last: int, batches: dict[int, int]) -> dict[str, Any]:
        entry = {
            "name": "m",
            "last_inference": last,
            "inference_stats": {"success": {"count": count, "ns": 10 * count}},
            "batch_stats": [
                {"batch_size": size, "compute_infer": {"count": n, "ns": n}}
                for size, n in batches.items()
            ],
        }
        return {"model_stats": [entry]}

    total = totals.of_statistics([statistics(2, 7, {1: 2, 8: 1}), statistics(3, 5, {2: 1, 8: 4})])
    assert total == statistics(5, 7, {1: 2, 2: 1, 8: 5})
    many = [statistics(1, 1, dict.fromkeys(range(at, at + 256), 1)) for at in (1, 200, 400)]
    assert len(totals.of_statistics(many)["model_stats"][0]["batch_stats"]) == 256

"""More requests at once than one turn of the event loop may begin: probes do not wait for them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import resource
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from runtime_kit import onnx_models
from runtime_kit.h2_client import Connection
from runtime_kit.process import Server
from runtime_kit.standstill import stopped, wait_until_accepted
from tritonclient.grpc import service_pb2

from slipway_runtime.server.turns import Turns

MEBIBYTE = 1024 * 1024
CLIENTS = 1500
# So that one of them takes some tenths of a millisecond, and is still one that may be put off.
NUMBERS = 2000
# Each is answered before the next is begun, which shows how many were; none is refused.
ALONE = {"SLIPWAY_MAX_BATCH_SIZE": "1", "SLIPWAY_MAX_QUEUE": str(CLIENTS)}
# Passes as a probe does, and tells how many were answered before it.
METRICS = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"
SUCCESS = "nv_inference_request_success"


@pytest.fixture(scope="module", autouse=True)
def as_many_files_as_clients() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path, onnx_models.identity("INT64"), extra=ALONE) as server:
        yield server.start().wait_until_ready()


@pytest.fixture
def clients(server: Server) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(connect(server)) for _ in range(CLIENTS)]


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def request(number: int) -> bytes:
    body = json.dumps({"x": [[number] * NUMBERS]}).encode()
    head = "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    return head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body


@contextlib.contextmanager
def at_once(server: Server) -> Iterator[None]:
    """Let all that is sent meanwhile come in one turn of the loop."""
    wait_until_accepted(server)
    with stopped([server.process.pid]):
        yield


def ask(clients: list[socket.socket]) -> None:
    for number, client in enumerate(clients):
        client.sendall(request(number))


def answer(client: socket.socket) -> tuple[int, bytes]:
    """Return the status and the body of one answer."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += received(client)
    head, _, body = got.partition(b"\r\n\r\n")
    found = re.search(rb"content-length: (\d+)", head)
    assert found, head
    while len(body) < int(found[1]):
        body += received(client)
    return int(head.split()[1]), body[: int(found[1])]


def told(client: socket.socket) -> tuple[int, list[int]]:
    """Return the status of an answer, and the row in it."""
    status, body = answer(client)
    (row,) = json.loads(body)["y"]
    return status, row


def received(client: socket.socket) -> bytes:
    data = client.recv(65536)
    assert data, "the server has closed the connection"
    return data


def of_metric(page: bytes, name: str) -> float:
    found = re.search(rf"^{name}(?:{{.*}})? (\S+)$", page.decode(), re.MULTILINE)
    assert found, name
    return float(found[1])


def test_a_probe_passes_what_a_turn_cannot_begin_and_everybody_is_answered(
    server: Server, clients: list[socket.socket]
) -> None:
    with connect(server) as probe:
        with at_once(server):
            ask(clients)
            probe.sendall(METRICS)
        _, page = answer(probe)
    assert of_metric(page, SUCCESS) < CLIENTS / 2
    for number, client in enumerate(clients):
        assert told(client) == (200, [number] * NUMBERS)
    # Their wait counts, as if they had waited for the model.
    page = server.get("/metrics").body
    waited = of_metric(page, "nv_inference_queue_duration_us") / 1e6
    assert waited > CLIENTS * 0.01
    assert of_metric(page, "slipway_request_duration_seconds_sum") > waited


def test_requests_that_were_put_off_are_answered_before_the_server_ends(
    server: Server, clients: list[socket.socket]
) -> None:
    with at_once(server):
        ask(clients)
        server.terminate()
    assert [answer(client)[0] for client in clients] == [200] * CLIENTS
    assert server.wait_for_end().code == 0


def test_the_rest_of_a_request_is_put_behind_what_was_put_off_of_it(
    server: Server, clients: list[socket.socket]
) -> None:
    with at_once(server):
        for number, client in enumerate(clients):
            client.sendall(request(number)[:-2])
    for number, client in enumerate(clients):
        client.sendall(request(number)[-2:] + request(number + 1))
    for number, client in enumerate(clients):
        assert told(client) == (200, [number] * NUMBERS)


def test_who_has_gone_meanwhile_costs_nothing_more(
    server: Server, clients: list[socket.socket]
) -> None:
    with at_once(server):
        for number, client in enumerate(clients):
            client.sendall(request(number))
            if number % 2:
                client.close()
    for number, client in enumerate(clients[::2]):
        assert told(client) == (200, [2 * number] * NUMBERS)
    page = server.get("/metrics").body
    assert of_metric(page, SUCCESS) < CLIENTS * 0.9
    gone = re.search(rb'^slipway_http_responses_total{code="499"} (\d+)$', page, re.MULTILINE)
    assert gone
    assert int(gone[1]) > CLIENTS * 0.1


def test_a_request_that_was_put_off_beyond_its_deadline_is_not_run(tmp_path: Path) -> None:
    extra = {**ALONE, "SLIPWAY_REQUEST_TIMEOUT_SECONDS": "0.05"}
    with (
        Server(tmp_path, onnx_models.identity("INT64"), extra=extra) as server,
        contextlib.ExitStack() as stack,
    ):
        server.start().wait_until_ready()
        clients = [stack.enter_context(connect(server)) for _ in range(CLIENTS)]
        with at_once(server):
            ask(clients)
        answers = [answer(client) for client in clients]
        late = [body for status, body in answers if status == 504]
        assert all(b"the deadline of 0.05 s passed" in body for body in late)
        assert sum(b"while waiting" in body for body in late) > CLIENTS / 4
        served = [status for status, _ in answers if status == 200]
        assert len(served) == CLIENTS - len(late)
        assert of_metric(server.get("/metrics").body, SUCCESS) == len(served)


def test_a_probe_passes_calls_of_grpc_as_well(tmp_path: Path) -> None:
    extra = {**ALONE, "SLIPWAY_GRPC_PORT": "0"}
    with (
        Server(tmp_path, onnx_models.identity("INT64"), extra=extra) as server,
        contextlib.ExitStack() as stack,
    ):
        server.start().wait_until_ready()
        callers = [
            stack.enter_context(Connection(server.grpc_address)) for _ in range(CLIENTS // 2)
        ]
        for caller in callers:
            caller.barrier()
        probe = stack.enter_context(connect(server))
        with at_once(server):
            calls = [
                caller.start("/inference.GRPCInferenceService/ModelInfer", asked(number))
                for number, caller in enumerate(callers)
            ]
            probe.sendall(METRICS)
        _, page = answer(probe)
        assert of_metric(page, SUCCESS) < len(callers) / 2
        for number, (caller, call) in enumerate(zip(callers, calls, strict=True)):
            (told,) = caller.finish(call).messages
            (row,) = service_pb2.ModelInferResponse.FromString(told).raw_output_contents
            assert row == np.full(NUMBERS, number).tobytes()


def asked(number: int) -> bytes:
    request = service_pb2.ModelInferRequest(model_name="m")
    request.inputs.add(name="x", datatype="INT64", shape=[1, NUMBERS])
    request.raw_input_contents.append(np.full(NUMBERS, number).tobytes())
    return request.SerializeToString()


def test_a_client_that_sends_on_while_it_is_put_off_is_answered(
    server: Server, clients: list[socket.socket]
) -> None:
    wait_until_accepted(server)
    body = json.dumps({"x": [[1]]}).encode() + b" " * 4 * MEBIBYTE
    head = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    senders = clients[-20:]
    with stopped([server.process.pid]):
        ask(clients[:-20])
        for sender in senders:
            sender.sendall(head)
    with ThreadPoolExecutor(len(senders)) as pool:
        list(pool.map(lambda sender: sender.sendall(body), senders))
    for client in clients[:-20]:
        assert answer(client)[0] == 200
    for sender in senders:
        assert told(sender) == (200, [1])


async def test_what_is_held_of_one_connection_is_bounded() -> None:
    """Nothing else limits what is not parsed yet."""
    turns, taken = Turns(), asyncio.Queue[bytes]()

    class Taker:
        def take_in(self, data: bytes, waited: float) -> None:
            assert waited >= 0
            taken.put_nowait(data)

    one, other = Taker(), Taker()
    assert turns.defer(one, b"x" * 60_000)
    assert turns.defer(other, b"y" * 60_000)
    assert not turns.defer(one, b"z" * 60_000)
    assert await taken.get() == b"x" * 60_000 + b"z" * 60_000
    assert await taken.get() == b"y" * 60_000
    assert not len(turns)

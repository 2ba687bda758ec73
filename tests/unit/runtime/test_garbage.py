"""What an answered request leaves behind: nothing that only the garbage collector could free.

With cycles the memory of a thousand requests waits for the collector, so each request begins with
memory that is in no cache, and now and then one waits for the collector.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop
from runtime_kit import onnx_models
from runtime_kit.process import seed

from slipway_runtime.artifact.digest import Digest
from slipway_runtime.http2 import frames
from slipway_runtime.http2.headers import encode
from slipway_runtime.protocol.messages import INFERENCE, message
from slipway_runtime.server.instance import Instance
from slipway_runtime.server.listener import listen
from slipway_runtime.settings import ServeSettings

ROW = [1.0, 2.0, 3.0, 4.0]


def tensor(**more: object) -> dict[str, object]:
    return {"name": "x", "shape": [1, 4], "datatype": "FP32", **more}


def binary_body() -> tuple[bytes, dict[str, str]]:
    data = np.array(ROW, dtype=np.float32).tobytes()
    header = json.dumps({"inputs": [tensor(parameters={"binary_data_size": len(data)})]}).encode()
    return header + data, {"inference-header-content-length": str(len(header))}


def infer_body() -> tuple[bytes, dict[str, str]]:
    return json.dumps({"inputs": [tensor(data=ROW)]}).encode(), {}


def predict_body() -> tuple[bytes, dict[str, str]]:
    return json.dumps(ROW).encode(), {}


def bad_body() -> tuple[bytes, dict[str, str]]:
    return json.dumps({"inputs": [tensor(data=["a"] * 4)]}).encode(), {}


REQUESTS = {
    "JSON": ("/v2/models/m/infer", infer_body(), b"200"),
    "binary": ("/v2/models/m/infer", binary_body(), b"200"),
    "predict": ("/predict", predict_body(), b"200"),
    "refused": ("/v2/models/m/infer", bad_body(), b"400"),
}
PLACES = {
    "on the loop": {"SLIPWAY_INLINE_MICROSECONDS": "20000"},
    "on a thread": {"SLIPWAY_INLINE_MICROSECONDS": "0"},
    "with a deadline": {"SLIPWAY_REQUEST_TIMEOUT_SECONDS": "30"},
    "without a log": {"SLIPWAY_ACCESS_LOG": "false"},
}
ROUNDS = 40
CLIENTS = 3


def request_of(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    told = {"host": "m", "content-length": str(len(body)), **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bytes:
    """Send a request and read its answer; returns the status."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    _, _, length = head.partition(b"content-length: ")
    await reader.readexactly(int(length.partition(b"\r\n")[0]))
    return head.split()[1]


async def started(instance: Instance) -> tuple[str, int]:
    listener = listen("127.0.0.1", 0)
    await instance.plain.listen(listener)
    instance.install(await instance.load())
    return listener.getsockname()


async def left_behind(rounds: Callable[[], Awaitable[None]]) -> dict[str, int]:
    """What many rounds left that only the collector frees: types of at least one each round."""
    for _ in range(5):
        await rounds()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(ROUNDS):
            await rounds()
        gc.collect()
        kinds = Counter(type(found).__qualname__ for found in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    return {kind: count for kind, count in kinds.items() if count >= ROUNDS}


def run(coroutine: Coroutine[Any, Any, dict[str, int]]) -> dict[str, int]:
    """Run on the loop that `serve` runs on; the collector is as before afterwards."""
    thresholds = gc.get_threshold()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(asyncio.wait_for(coroutine, 30))
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", REQUESTS)
def test_an_answered_request_leaves_nothing_for_the_garbage_collector(
    tmp_path: Path, kind: str, place: str
) -> None:
    content = onnx_models.linear()
    digest = seed(tmp_path, content)
    path, (body, headers), status = REQUESTS[kind]
    settings = ServeSettings.from_environment({"SLIPWAY_CACHE_DIR": str(tmp_path), **PLACES[place]})

    async def serve() -> dict[str, int]:
        instance = Instance("m", Digest.parse(digest), settings)
        address = await started(instance)
        clients = [await asyncio.open_connection(*address) for _ in range(CLIENTS)]
        request = request_of(path, body, headers)

        async def requests() -> None:
            answers = await asyncio.gather(*(ask(*client, request) for client in clients))
            assert answers == [status] * CLIENTS

        left = await left_behind(requests)
        for _, writer in clients:
            writer.close()
        await instance.stop(1)
        return left

    assert run(serve()) == {}


def call_of(stream: int, method: str, message: bytes) -> bytes:
    fields = {
        ":method": "POST", ":scheme": "http", ":path": f"/{INFERENCE}/{method}",
        ":authority": "m", "content-type": "application/grpc", "te": "trailers",
    }  # fmt: skip
    block = encode((name.encode(), value.encode()) for name, value in fields.items())
    packed = struct.pack(">BL", 0, len(message)) + message
    return frames.frame(frames.HEADERS, frames.END_HEADERS, stream, block) + frames.frame(
        frames.DATA, frames.END_STREAM, stream, packed
    )


async def answer_to(reader: asyncio.StreamReader, stream: int) -> bytes:
    """Read until a stream has ended; returns its last header block."""
    while True:
        high, low, kind, flags, number = frames.HEAD.unpack(await reader.readexactly(9))
        payload = await reader.readexactly(high << 8 | low)
        if (kind, number) == (frames.HEADERS, stream) and flags & frames.END_STREAM:
            return payload


@pytest.mark.parametrize("place", ["on the loop", "on a thread"])
@pytest.mark.parametrize(
    ("method", "name", "status"),
    [("ModelInfer", "m", b"0"), ("ModelInfer", "n", b"5"), ("ModelStreamInfer", "m", b"0")],
    ids=["unary", "refused", "stream"],
)
def test_an_answered_call_leaves_nothing_for_the_garbage_collector(
    tmp_path: Path, method: str, name: str, status: bytes, place: str
) -> None:
    digest = seed(tmp_path, onnx_models.linear())
    settings = ServeSettings.from_environment({"SLIPWAY_CACHE_DIR": str(tmp_path), **PLACES[place]})
    asked = message("ModelInferRequest")(model_name=name)
    asked.inputs.add(name="x", datatype="FP32", shape=[1, 4]).contents.fp32_contents.extend(ROW)
    content = asked.SerializeToString()

    async def serve() -> dict[str, int]:
        instance = Instance("m", Digest.parse(digest), settings)
        rpc = await instance.start_grpc()
        await started(instance)
        listener = listen("127.0.0.1", 0)
        await rpc.listen(listener)
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(frames.PREFACE + frames.settings({}))
        numbers = itertools.count(1, 2)

        async def calls() -> None:
            streams = [next(numbers) for _ in range(CLIENTS)]
            writer.write(b"".join(call_of(stream, method, content) for stream in streams))
            for stream in streams:
                assert b"grpc-status\x01" + status in await answer_to(reader, stream)

        left = await left_behind(calls)
        writer.close()
        await instance.stop(1)
        return left

    assert run(serve()) == {}


@pytest.mark.parametrize("complete", [True, False], ids=["after an answer", "in a request"])
def test_a_connection_that_has_ended_leaves_nothing_for_the_garbage_collector(
    tmp_path: Path, *, complete: bool
) -> None:
    digest = seed(tmp_path, onnx_models.linear())
    settings = ServeSettings.from_environment({"SLIPWAY_CACHE_DIR": str(tmp_path)})
    path, (body, headers), status = REQUESTS["JSON"]
    request = request_of(path, body, headers)

    async def serve() -> dict[str, int]:
        instance = Instance("m", Digest.parse(digest), settings)
        address = await started(instance)

        async def connections() -> None:
            # A plain socket: asyncio's own streams leave cycles of theirs.
            loop = asyncio.get_running_loop()
            with socket.socket() as client:
                client.setblocking(False)
                await loop.sock_connect(client, address)
                await loop.sock_sendall(client, request if complete else request[:-5])
                if complete:
                    assert (await loop.sock_recv(client, 65536)).split()[1] == status
            while instance.metrics.connections():  # noqa: ASYNC110 - it is told nowhere else
                await asyncio.sleep(0)

        left = await left_behind(connections)
        await instance.stop(1)
        return left

    assert run(serve()) == {}


@pytest.mark.parametrize("complete", [True, False], ids=["after an answer", "in a call"])
def test_a_connection_of_grpc_that_has_ended_leaves_nothing_for_the_garbage_collector(
    tmp_path: Path, *, complete: bool
) -> None:
    digest = seed(tmp_path, onnx_models.linear())
    settings = ServeSettings.from_environment({"SLIPWAY_CACHE_DIR": str(tmp_path)})
    request = frames.PREFACE + frames.settings({}) + call_of(1, "ServerLive", b"")

    async def serve() -> dict[str, int]:
        instance = Instance("m", Digest.parse(digest), settings)
        rpc = await instance.start_grpc()
        listener = listen("127.0.0.1", 0)
        await rpc.listen(listener)

        async def connections() -> None:
            loop = asyncio.get_running_loop()
            with socket.socket() as client:
                client.setblocking(False)
                await loop.sock_connect(client, listener.getsockname())
                await loop.sock_sendall(client, request if complete else request[:-5])
                received = b""
                while complete and b"grpc-status\x010" not in received:
                    received += await loop.sock_recv(client, 65536)
                while not instance.metrics.connections():  # noqa: ASYNC110 - told nowhere else
                    await asyncio.sleep(0)
            while instance.metrics.connections():  # noqa: ASYNC110 - it is told nowhere else
                await asyncio.sleep(0)

        left = await left_behind(connections)
        await instance.stop(1)
        return left

    assert run(serve()) == {}

"""The loop stays awake after an answer, where the next request mostly follows at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
from grpc import aio as grpc_aio
from runtime_kit import onnx_models
from runtime_kit.process import seed

from slipway_runtime.artifact.digest import Digest
from slipway_runtime.protocol.messages import INFERENCE
from slipway_runtime.server import instance as instances
from slipway_runtime.server.busy_poll import BusyPoll
from slipway_runtime.server.listener import listen
from slipway_runtime.settings import ServeSettings

LONG = 60.0
ENOUGH_TO_CONVINCE = 1000


def convince(poll: BusyPoll) -> int:
    """Let requests follow their answers at once; return how many answers were looked behind."""
    looks = 0
    for _ in range(ENOUGH_TO_CONVINCE):
        poll.answered()
        looks += poll.looking
        poll.heard()
    return looks


async def until_it_sleeps(poll: BusyPoll) -> None:
    async with asyncio.timeout(10):
        while poll.looking:  # noqa: ASYNC110 - it is told nowhere else
            await asyncio.sleep(0)


async def test_where_nothing_follows_few_answers_are_looked_behind() -> None:
    poll = BusyPoll(1e-6)
    looks = 0
    for _ in range(320):
        poll.answered()
        looks += poll.looking
        await until_it_sleeps(poll)
    assert looks == 10


async def test_where_requests_follow_every_answer_is_looked_behind() -> None:
    poll = BusyPoll(LONG)
    assert convince(poll) > ENOUGH_TO_CONVINCE / 2
    poll.answered()
    assert poll.looking


async def test_looks_in_vain_soon_become_few() -> None:
    poll = BusyPoll(0.001)
    convince(poll)
    looks = 0
    for _ in range(64):
        poll.answered()
        looks += poll.looking
        await until_it_sleeps(poll)
    assert 1 <= looks <= 8


async def test_a_look_ends_after_its_time() -> None:
    poll = BusyPoll(0.001)
    convince(poll)
    poll.answered()
    await until_it_sleeps(poll)


async def test_what_is_in_flight_gets_the_core() -> None:
    poll = BusyPoll(LONG)
    convince(poll)
    poll.in_flight = lambda: 1
    poll.answered()
    assert not poll.looking


async def test_no_time_means_no_look() -> None:
    poll = BusyPoll(0.0)
    assert convince(poll) == 0


class Ear(BusyPoll):
    """Counts what it hears, and remembers what it was made with."""

    made: ClassVar[list[Self]] = []

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds
        self.requests = self.answers = 0
        self.made.append(self)

    def heard(self) -> None:
        self.requests += 1
        super().heard()

    def answered(self) -> None:
        self.answers += 1
        super().answered()


@pytest.fixture
def ears(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Ear]]:
    """What an instance makes in place of its poll."""
    monkeypatch.setattr(instances, "BusyPoll", Ear)
    yield Ear.made
    Ear.made.clear()


async def test_requests_and_calls_are_heard_of(tmp_path: Path, ears: list[Ear]) -> None:
    digest = seed(tmp_path, onnx_models.linear())
    settings = ServeSettings.from_environment({"SLIPWAY_CACHE_DIR": str(tmp_path)})
    instance = instances.Instance("m", Digest.parse(digest), settings)
    (ear,) = ears
    rpc = await instance.start_grpc()
    http, grpc = listen("127.0.0.1", 0), listen("127.0.0.1", 0)
    await instance.plain.listen(http)
    await rpc.listen(grpc)
    instance.install(await instance.load())
    assert ear.in_flight() == 0

    async def one_request() -> None:
        reader, writer = await asyncio.open_connection(*http.getsockname())
        writer.write(b"GET /v2/health/ready HTTP/1.1\r\nhost: m\r\n\r\n")
        await reader.readuntil(b'"ready":true')
        writer.close()

    async def one_call() -> None:
        async with grpc_aio.insecure_channel(f"127.0.0.1:{grpc.getsockname()[1]}") as channel:
            live: Any = channel.unary_unary(f"/{INFERENCE}/ServerLive")
            assert await live(b"")

    async with asyncio.timeout(20):
        await one_request()
        assert (ear.requests, ear.answers) == (1, 1)
        await one_call()
        assert ear.requests > 1
        assert ear.answers > 1
        await instance.stop(1)


@pytest.mark.parametrize(
    ("quota", "microseconds", "seconds"),
    [
        (None, None, 200e-6),
        (1.0, None, 200e-6),
        (0.5, None, 0.0),
        (None, "50", 50e-6),
        (0.5, "50", 0.0),
        (None, "0", 0.0),
    ],
)
async def test_less_than_a_core_is_not_kept_awake(
    tmp_path: Path,
    ears: list[Ear],
    monkeypatch: pytest.MonkeyPatch,
    quota: float | None,
    microseconds: str | None,
    seconds: float,
) -> None:
    monkeypatch.setattr(instances, "cpu_quota", lambda: quota)
    environment = {"SLIPWAY_CACHE_DIR": str(tmp_path)}
    if microseconds is not None:
        environment["SLIPWAY_BUSY_POLL_MICROSECONDS"] = microseconds
    settings = ServeSettings.from_environment(environment)
    instance = instances.Instance("m", Digest("0" * 64), settings)
    await instance.stop(1)
    assert [ear.seconds for ear in ears] == [pytest.approx(seconds)]

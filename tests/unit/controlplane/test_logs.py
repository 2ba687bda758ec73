"""Each line of a reconcile says which model it is about; none holds a credential."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import kopf
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from fake_cluster import pods, samples
from fake_cluster.world import World
from kopf._cogs.clients import api, auth

from slipway_operator.app.handlers import build_settings
from slipway_operator.app.logs import (
    JsonFormatter,
    TextFormatter,
    without_endless_tries,
    without_unclosed_generators,
)
from slipway_operator.reconcile import kinds, log_context
from slipway_operator.reconcile.kube import ApiError

SECRET = "X-Amz-Signature=abc123"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What the operator logs, as JSON."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("slipway_operator")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(level)


def parsed(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


async def test_each_line_of_a_reconcile_has_key_revision_and_digest(
    world: World, lines: io.StringIO
):
    world.apply(digest=samples.A)
    await world.run()
    world.behaviours["b"] = pods.fetch_ends(20)
    world.apply(digest=samples.B)
    await world.run()
    told = parsed(lines)
    assert {"created", "applied", "recorded", "reported"} <= {
        line["message"].split()[0] for line in told
    }
    for line in told:
        assert line["model"] == "payments/fraud"
        assert line["revision"] in ("1", "2")
        assert line["digest"] in ("a" * 12, "b" * 12)


def test_another_model_takes_over_nothing_from_the_one_before():
    log_context.begin("a", "first")
    log_context.add(revision="3", digest="abc")
    log_context.begin("a", "second")
    assert log_context.fields() == {"model": "a/second"}


async def test_no_line_event_or_status_holds_the_query_of_a_presigned_address(
    world: World, lines: io.StringIO
):
    address = f"https://store.example/m.onnx?{SECRET}&X-Amz-Expires=60"
    world.apply(digest=samples.A, model={"uri": address, "digest": samples.A})

    def refuse(write) -> None:
        if write.kind == kinds.DEPLOYMENT.name:
            raise ApiError(
                422, "Invalid", f'Deployment "fraud" is invalid: args: Invalid value: ["{address}"]'
            )

    world.api.before = refuse
    await world.run()
    assert world.condition("Ready")["reason"] == "ApplyRejected"
    assert "https://store.example/m.onnx" in world.condition("Ready")["message"]
    everything = json.dumps([lines.getvalue(), world.status, world.events])
    assert SECRET not in everything


def test_a_line_for_a_person_has_the_same_fields():
    log_context.begin("payments", "fraud")
    record = logging.makeLogRecord({"msg": "reported", "name": "x", "ready": "True"})
    line = TextFormatter("%(message)s").format(record)
    assert line == "reported  (model=payments/fraud ready=True)"


def test_the_end_of_the_process_is_told_without_stacks_of_what_could_not_be_closed(
    caplog: pytest.LogCaptureFixture,
):
    async def stubborn() -> AsyncGenerator[int]:
        try:
            yield 1
        finally:
            raise RuntimeError("generator didn't stop after athrow()")

    kept = list[AsyncGenerator[int]]()

    async def end_with_one_open() -> None:
        kept.append(stubborn())
        await anext(kept[-1])
        asyncio.get_running_loop().call_exception_handler({"message": "something else"})

    asyncio.run(end_with_one_open())
    assert len(caplog.messages) == 2, "asyncio words it in another way"
    assert [without_unclosed_generators(record) for record in caplog.records] == [True, False]


async def test_a_watch_that_is_refused_is_tried_for_ever_and_told_of_seldom(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """kopf words the lines: with its own client, against a server that denies."""

    class Enough(Exception):  # noqa: N818 - no error
        pass

    logger = logging.getLogger("kopf")
    waited = list[float]()

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 200:
            raise Enough

    async def deny(_request: web.Request) -> web.Response:
        return web.json_response({"code": 403, "kind": "Status"}, status=403)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", deny)
    async with TestServer(app) as server:
        context = auth.APIContext(kopf.ConnectionInfo(server=str(server.make_url("/"))))
        asking: Any = api.request  # its decorator hides that a context may be given
        monkeypatch.setattr(api.asyncio, "sleep", sleep)
        with pytest.raises(Enough):
            await asking("get", "/api", settings=build_settings(), logger=logger, context=context)
        await context.close()
    assert sum(waited) > 1000
    assert max(waited) < 10
    told = [record for record in caplog.records if "will retry" in record.getMessage()]
    assert len(told) == 200
    assert len([record for record in told if without_endless_tries(record)]) == 12

"""What supervisor and worker tell each other, when the system takes less than is to be told."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest

from slipway_runtime.server.channel import Channel, Kind


async def test_a_message_that_is_too_large_is_dropped_and_the_next_ones_come(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setblocking(False)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    came: list[tuple[Kind, int]] = []
    lost: list[bool] = []
    done = asyncio.Event()

    def received(kind: Kind, content: bytes, *_: object) -> None:
        came.append((kind, len(content)))
        done.set()

    sender = Channel(ours, received, lambda: lost.append(True))
    receiver = Channel(theirs, received, lambda: lost.append(True))
    with caplog.at_level(logging.ERROR):
        assert sender.send(Kind.TOTAL, bytes(500_000))
    assert "a message of 500001 bytes" in caplog.text
    assert sender.send(Kind.READY)
    await asyncio.wait_for(done.wait(), 5)
    assert came == [(Kind.READY, 0)]
    assert not lost
    sender.close()
    receiver.close()

"""When the operator gives memory back."""

from __future__ import annotations

import asyncio

import pytest

from slipway_operator.app import memory


@pytest.mark.parametrize(
    ("handled", "times"),
    [
        ([0, 0, 0, 0], 0),
        ([0, 40, 40, 40], 0),  # too few to matter
        ([0, 100, 200, 300], 0),  # still at it
        ([0, 100, 100, 100], 1),
        ([0, 100, 100, 120, 120, 180, 180], 2),
        ([0, 30, 30, 60, 60], 1),
    ],
)
def test_memory_is_given_back_once_work_has_come_to_rest(
    monkeypatch: pytest.MonkeyPatch, handled: list[int], times: int
) -> None:
    reclaimed: list[int] = []
    steps = iter(handled)
    monkeypatch.setattr(memory, "_LOOK_SECONDS", 0)
    monkeypatch.setattr(memory, "reclaim", lambda: reclaimed.append(1))
    with pytest.raises(RuntimeError):  # a coroutine's way to say that the steps are over
        asyncio.run(memory.reclaim_at_rest(lambda: next(steps)))
    assert len(reclaimed) == times

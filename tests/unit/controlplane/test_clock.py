"""The operator's time is the API server's, whatever happens to the clock of its own machine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from slipway_operator.reconcile.clock import ServerClock

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Machine:
    """A machine with two clocks: one can be set, the other only goes on."""

    def __init__(self) -> None:
        self.wall = NOON
        self.seconds = 5000.0
        self.clock = ServerClock(lambda: self.seconds, lambda: self.wall)

    def passes(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.seconds += seconds


def header(moment: datetime) -> str:
    return moment.strftime("%a, %d %b %Y %H:%M:%S GMT")


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_before_the_first_answer_it_is_the_machines(machine):
    assert machine.clock.now() == NOON


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["forward", "back"])
def test_a_clock_that_jumps_changes_nothing(machine, jump):
    machine.clock.heard(header(NOON))
    machine.passes(10)
    machine.wall += jump
    assert machine.clock.now() == NOON + timedelta(seconds=10)


def test_a_machine_that_is_an_hour_ahead_has_the_servers_time(machine):
    machine.wall += HOUR
    machine.clock.heard(header(NOON))
    assert machine.clock.now() == NOON


def test_it_comes_close_and_never_goes_back_by_a_fraction_of_a_second(machine):
    before = machine.clock.now()
    for _ in range(500):
        machine.passes(0.37)
        # Sent at this moment, heard a little later.
        told = header(machine.wall)
        machine.passes(0.01)
        machine.clock.heard(told)
        now = machine.clock.now()
        assert now >= before
        before = now
    assert timedelta(0) <= machine.wall - now < timedelta(seconds=0.05)


def test_when_the_servers_clock_is_set_it_follows(machine):
    machine.clock.heard(header(NOON))
    machine.clock.heard(header(NOON - HOUR))
    assert machine.clock.now() == NOON - HOUR


@pytest.mark.parametrize("nonsense", [None, "", "yesterday", "Sat, 99 Nov 2026 12:00:00 GMT"])
def test_what_is_no_date_says_nothing(machine, nonsense):
    machine.clock.heard(header(NOON))
    machine.clock.heard(nonsense)
    assert machine.clock.now() == NOON

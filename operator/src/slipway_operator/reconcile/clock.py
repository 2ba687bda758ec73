"""The API server's time: what the cluster's own timestamps can be compared with.

Decisions compare the present time with times that were written by others, and with times that an
earlier process wrote. A machine whose clock is wrong, or is set while the operator runs, must not
give up a rollout early or wait an hour longer. Every answer of the API server tells its time in
whole seconds; in between the monotonic clock carries it on.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

_SET = timedelta(seconds=2)


def _wall_clock() -> datetime:
    return datetime.now(UTC)


class ServerClock:
    """Tells the API server's time; this machine's own until the first answer was heard."""

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], datetime] = _wall_clock,
    ) -> None:
        self._monotonic = monotonic
        self._wall_clock = wall_clock
        self._began: datetime | None = None
        """The API server's time when the monotonic clock was zero."""

    def heard(self, date: str | None) -> None:
        """Take in the Date header of an answer; None and what is no date say nothing."""
        if date is None:
            return
        try:
            told = parsedate_to_datetime(date).replace(tzinfo=UTC)
        except ValueError:
            return
        began = told - timedelta(seconds=self._monotonic())
        # The fraction of a second is cut off and the answer took a while: the latest estimate is
        # the most accurate, unless the server's own clock was set.
        if self._began is None or began > self._began or self._began - began > _SET:
            self._began = began

    def now(self) -> datetime:
        """The present time in UTC."""
        if self._began is None:
            return self._wall_clock()
        return self._began + timedelta(seconds=self._monotonic())

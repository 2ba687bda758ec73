"""Leaders forced out in every way with rollouts under way; bench/leadership.py forces 100."""

from __future__ import annotations

from functools import partial

from operator_kit.audit import AuditLog
from operator_kit.installation import NAMESPACE, RELEASE
from operator_kit.space import Space
from operator_kit.takeovers import Takeovers, Way

from .conftest import Launch

# So that a machine that stands still for seconds forces nobody out: this test alone does.
_LEADERSHIP = {"namespace": NAMESPACE, "name": RELEASE, "durationSeconds": 10,
               "renewDeadlineSeconds": 8, "retryPeriodSeconds": 0.5}  # fmt: skip
_WAYS = (Way.KILLED, Way.STOPPED, Way.ASKED, Way.KILLED, Way.ASKED)


def test_takeovers_in_the_middle_of_rollouts_do_nothing_twice(
    launch: Launch, space: Space, audit: AuditLog
) -> None:
    takeovers = Takeovers(
        partial(launch, leaderElection=_LEADERSHIP), space, audit, models=6, seed=20261121
    )
    takeovers.prepare()
    seen = [takeovers.force(way) for way in _WAYS]
    requests = audit.of({operator.credential for operator in takeovers.operators})
    assert takeovers.double_actions(requests) == []
    for takeover in seen:
        allowed = 2.0 if takeover.way is Way.ASKED else 11.0
        assert takeover.leads < allowed, takeover

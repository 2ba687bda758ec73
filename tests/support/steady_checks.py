"""What is asked of steady requests to a model: that its versions answer, and that none fails."""

from __future__ import annotations

import pytest

from slipway_dev.testbed import Artifact
from slipway_dev.traffic import SteadyTraffic, Tally
from slipway_dev.wait import wait_until


def wait_for_answers(traffic: SteadyTraffic, artifact: Artifact, count: int) -> None:
    """Wait until a version has given so many answers."""
    wait_until(
        f"{count} answers by {artifact.digest}",
        lambda: None if traffic.tally.by_digest[artifact.digest] >= count else str(traffic.tally),
        30,
    )


def wait_for_more_answers(traffic: SteadyTraffic, artifact: Artifact, count: int = 50) -> None:
    """Wait until a version has given so many more answers."""
    wait_for_answers(traffic, artifact, traffic.tally.by_digest[artifact.digest] + count)


def assert_nothing_failed(tally: Tally, request: pytest.FixtureRequest) -> None:
    """Check that every request was answered well, and note how many there were."""
    request.node.user_properties.append(("requests", f"{tally.sent} sent, {tally.failed} failed"))
    print(tally)
    assert tally.sent > 100
    assert not tally.failures, str(tally)

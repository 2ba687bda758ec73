"""What people do to a model that serves under steady load."""

from __future__ import annotations

from typing import Any

from runtime_kit import onnx_models

from fault_kit.artifact_faults import wrong_digest
from fault_kit.play import Seen
from fault_kit.stage import MODEL, Change, Stage, Stopwatch

Json = dict[str, Any]

_SERVE = "/spec/template/spec/containers/0"
_EDIT: Json = {"op": "replace", "path": f"{_SERVE}/env/0/value", "value": "/elsewhere"}


def rollout_paused(stage: Stage) -> Seen:
    """`kubectl rollout pause`: the pause is taken back and the rollout completes."""
    _serve(stage)
    artifact = stage.another()
    with stage.traffic() as traffic:
        stage.more_answers(traffic)
        with stage.starts:
            stage.apply(Change(artifact))
            stage.until("rolls out", lambda v: v.current and v.reason == "RollingOut", 10)
            kubectl = stage.testbed.cluster.kubectl
            kubectl("rollout", "pause", f"deployment/{MODEL}", "-n", stage.namespace)
            watch = Stopwatch()
            stage.eventually(lambda: _is_not_paused(stage))
            seconds = watch.seconds
            stage.serves(artifact)
        stage.more_answers(traffic)
    tally = traffic.tally
    assert not tally.failures, str(tally)
    return Seen(
        "RollingOut", "the pause was taken back", seconds, tally.sent, tally.failed,
        "the rollout went on and completed",
    )  # fmt: skip


def edited_by_hand(stage: Stage) -> Seen:
    """An environment variable of the live Deployment: it gets its value back."""
    _serve(stage)
    before = stage.deployment()["spec"]["template"]
    pods = _names(stage)
    with stage.traffic() as traffic:
        stage.more_answers(traffic)
        stage.api.patch("deployments", stage.namespace, MODEL, [_EDIT], "json")
        watch = Stopwatch()
        stage.eventually(lambda: _has_template(stage, before))
        seconds = watch.seconds
        stage.until("has its pods again", lambda v: v.settled and _names(stage) == pods, 60)
        stage.more_answers(traffic)
    tally = traffic.tally
    assert not tally.failures, str(tally)
    assert set(tally.by_digest) == {stage.good.digest}
    return Seen(
        "Serving", "the Deployment is as it was, and the same pods serve", seconds,
        tally.sent, tally.failed, "by itself",
    )  # fmt: skip


def changed_three_times(stage: Stage) -> Seen:
    """Another version while one is rolled out, three times: the last one is served."""
    _serve(stage)
    with stage.traffic() as traffic, stage.starts:
        stage.more_answers(traffic)
        asked = [
            stage.upload(onnx_models.linear(bias=float(number)), f"v{number}")
            for number in (2, 3, 4)
        ]
        for artifact in asked:
            watch = Stopwatch()
            stage.apply(Change(artifact))
            aimed = stage.until(
                f"aims at {artifact.digest}",
                lambda v, wanted=artifact: v.status["target"]["digest"] == wanted.digest,
                10,
            )
            seconds = watch.seconds
            assert aimed.row[3] == "True"
        done = stage.serves(asked[-1])
        stage.more_answers(traffic)
    outcomes = {entry["digest"]: entry["outcome"] for entry in done.status["history"]}
    assert outcomes[asked[-1].digest] == "Good"
    assert "Failed" not in outcomes.values()
    tally = traffic.tally
    assert not tally.failures, str(tally)
    return Seen(
        "RollingOut", "each change is the new target at once; none counts as failed", seconds,
        tally.sent, tally.failed, "the last one is served",
    )  # fmt: skip


def reverted(stage: Stage) -> Seen:
    """A revert in Git after a rollback: Ready again, and no pod was touched."""
    _serve(stage)
    pods = _names(stage)
    with stage.traffic() as traffic:
        with stage.starts:
            stage.apply(wrong_digest(stage))
            stage.until("is rolled back", lambda v: v.stalled == "RolledBack", 60)
        watch = Stopwatch()
        stage.apply(Change())
        stage.until("serves as asked", lambda v: v.settled and v.reason == "Serving", 30)
        seconds = watch.seconds
        stage.more_answers(traffic)
    assert pods <= _names(stage)  # The failed version's last pod may still be about to go.
    tally = traffic.tally
    assert not tally.failures, str(tally)
    assert set(tally.by_digest) == {stage.good.digest}
    return Seen(
        "Serving", "Ready again with the very same pods", seconds, tally.sent, tally.failed,
        "the failure is over with the revert",
    )  # fmt: skip


def _serve(stage: Stage) -> None:
    with stage.starts:
        stage.apply(Change())
        stage.serves(stage.good)


def _names(stage: Stage) -> set[str]:
    return {pod["metadata"]["name"] for pod in stage.pods()}


def _is_not_paused(stage: Stage) -> None:
    assert not stage.deployment()["spec"].get("paused"), "the Deployment is paused"


def _has_template(stage: Stage, template: Json) -> None:
    assert stage.deployment()["spec"]["template"] == template

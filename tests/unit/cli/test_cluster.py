"""How a rollout is judged, and what kubectl's complaints mean (tests/controlplane has the rest)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_kit.run import slipway

from slipway.cluster import rollout
from slipway.cluster.kubectl import meaning


def model(*, seen: int = 2, suspend: bool = False, **conditions: str) -> dict[str, Any]:
    return {
        "metadata": {"name": "fraud", "generation": 2},
        "spec": {"model": {"digest": "sha256:2"}, "suspend": suspend},
        "status": {
            "observedGeneration": seen,
            "conditions": [
                {"type": kind, "status": value, "reason": "Because", "message": "of this"}
                for kind, value in conditions.items()
            ],
        },
    }


@pytest.mark.parametrize(
    ("told", "state"),
    [
        (model(Ready="True"), "ready"),
        (model(Ready="True", seen=1), "under way"),
        (model(Ready="False", Stalled="True", seen=1), "under way"),
        (model(Ready="False", Stalled="True"), "failed"),
        (model(Ready="False", Reconciling="True"), "under way"),
        (model(Ready="Unknown", Reconciling="True"), "under way"),
        (model(Ready="True", suspend=True), "failed"),
        ({"metadata": {"generation": 1}, "spec": {}}, "under way"),
    ],
)
def test_a_status_counts_for_its_own_generation_alone(told: dict[str, Any], state: str) -> None:
    assert rollout.progress(told).state == state


def pod(fetch: dict[str, Any] | None, *, ready: bool = False, digest: str = "d") -> dict[str, Any]:
    return {
        "metadata": {"annotations": {"slipway.dev/digest": digest}},
        "status": {
            "conditions": [{"type": "Ready", "status": str(ready)}],
            **({"initContainerStatuses": [{"state": fetch}]} if fetch is not None else {}),
        },
    }


def test_the_stage_of_each_pod_of_the_digest_is_told() -> None:
    done = {"terminated": {"exitCode": 0}}
    pods = [
        pod(None),
        pod({"running": {}}),
        pod({"terminated": {"exitCode": 20}}),
        pod(done),
        pod(done, ready=True),
        pod(done, ready=True, digest="other"),
    ]
    assert rollout.stages(pods, "d") == "1 scheduling, 2 fetching, 1 loading, 1 ready"
    assert rollout.stages([], "d") == ""


def history(*outcomes: str, target: int, serving: int | None) -> dict[str, Any]:
    return {
        "status": {
            "target": {"revision": target},
            "serving": None if serving is None else {"revision": serving},
            "history": [
                {"revision": n, "digest": f"sha256:{n}", "outcome": outcome}
                for n, outcome in reversed(list(enumerate(outcomes, 1)))
            ],
        }
    }


@pytest.mark.parametrize(
    ("told", "chosen"),
    [
        (history("Good", "Good", target=2, serving=2), 1),
        (history("Good", "Failed", "Good", target=3, serving=3), 1),
        (history("Good", "Failed", target=2, serving=1), 1),
        (history("Good", target=1, serving=1), None),
        (history("Pending", target=1, serving=None), None),
    ],
)
def test_the_revision_to_go_back_to_is_the_newest_good_one_before(
    told: dict[str, Any], chosen: int | None
) -> None:
    assert rollout.revision_before(told) == chosen


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ('Error from server (Forbidden): modeldeployments is forbidden: User "x"', "AccessDenied"),
        ("error: You must be logged in to the server (Unauthorized)", "AccessDenied"),
        ("The connection to the server localhost:8080 was refused", "Unavailable"),
        ('error: the server doesn\'t have a resource type "modeldeployments"', "NotFound"),
        ('The ModelDeployment "f" is invalid: spec.model.uri: Invalid value', "InvalidArguments"),
        ("Error from server (AlreadyExists): it exists", "Conflict"),
        ("", "Unavailable"),
    ],
)
def test_what_kubectl_complains_of_has_a_meaning(said: str, reason: str) -> None:
    assert meaning(said).reason == reason


def test_without_kubectl_the_command_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(folder))
    ended = slipway("status", "fraud")
    assert ended.code == 9
    assert "kubectl is not installed" in ended.err


def test_deploy_wants_to_know_which_artifact_and_which_resource(linear: Path) -> None:
    assert "--to s3://BUCKET/PREFIX" in slipway("deploy", linear, "--name", "fraud").err
    ended = slipway("deploy", "--name", "fraud")
    assert ended.code == 2

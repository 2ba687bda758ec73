"""How a rollout is judged, and what kubectl's complaints mean (tests/controlplane has the rest)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from cli_kit.run import slipway

from slipway.cluster import rollout
from slipway.cluster.kubectl import meaning
from slipway.cluster.wait import until_ready
from slipway.errors import AccessDenied, Unavailable
from slipway.files import digest_of


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
        (model(Ready="True", suspend=True), "suspended"),
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


def test_a_kind_that_the_cluster_lacks_is_named() -> None:
    said = (
        'error: resource mapping not found for name: "x": no matches for kind "%s" in version "v1"'
    )
    operator = meaning(said % "ModelDeployment")
    assert "install the operator" in (operator.hint or "")
    other = meaning(said % "ServiceMonitor")
    assert other.reason == operator.reason == "NotFound"
    assert "what ServiceMonitor belongs to" in (other.hint or "")


def test_without_kubectl_the_command_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(folder))
    ended = slipway("status", "fraud")
    assert ended.code == 9
    assert "kubectl is not installed" in ended.err


@pytest.mark.parametrize("outdated", [True, False])
def test_a_model_that_would_come_out_differently_now_is_said_to_be_outdated(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, outdated: bool
) -> None:
    told = model(Ready="True")
    told["status"] |= {"outdated": True} if outdated else {}
    (folder / "answer.json").write_text(json.dumps(told))
    kubectl = folder / "kubectl"
    kubectl.write_text(f"#!/bin/sh\ncat {folder}/answer.json\n")
    kubectl.chmod(0o755)
    monkeypatch.setenv("SLIPWAY_KUBECTL", str(kubectl))
    assert slipway("status", "fraud", "--json").json["outdated"] is outdated
    assert ("outdated" in slipway("status", "fraud").out) is outdated


def test_deploy_wants_to_know_which_artifact_and_which_resource(linear: Path) -> None:
    assert "--to s3://BUCKET/PREFIX" in slipway("deploy", linear, "--name", "fraud").err
    ended = slipway("deploy", "--name", "fraud")
    assert ended.code == 2


class Answers:
    """A cluster of which each look at the model gives the next answer."""

    def __init__(self, *answers: dict[str, Any] | Unavailable) -> None:
        self.answers = list(answers)

    def get(self, _name: str) -> dict[str, Any]:
        answer = self.answers.pop(0)
        if isinstance(answer, Unavailable):
            raise answer
        return answer

    def pods(self, _name: str) -> list[dict[str, Any]]:
        return []


def test_waiting_does_without_the_stages_where_pods_may_not_be_listed() -> None:
    class Reserved(Answers):
        def pods(self, _name: str) -> list[dict[str, Any]]:
            raise AccessDenied("pods is forbidden")

    ready = model(Ready="True")
    cluster: Any = Reserved(ready)
    assert until_ready(cluster, "fraud", "d", 60, lambda _: None, lambda _: True) == ready


def test_waiting_bears_a_cluster_that_is_silent_for_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("slipway.cluster.wait._POLL_SECONDS", 0.01)
    gone, ready = Unavailable("no answer"), model(Ready="True")
    cluster: Any = Answers(model(Reconciling="True"), gone, gone, ready)
    assert until_ready(cluster, "fraud", "d", 60, lambda _: None, lambda _: True) == ready
    monkeypatch.setattr("slipway.cluster.wait._SILENCE_SECONDS", 0.05)
    silent: Any = Answers(*[gone] * 100)
    with pytest.raises(Unavailable):
        until_ready(silent, "fraud", "d", 60, lambda _: None, lambda _: True)


def test_deploy_looks_where_the_file_says(
    folder: Path, linear: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = digest_of(linear.read_bytes())
    asked = folder / "asked"
    kubectl = folder / "kubectl"
    told = {**model(Ready="True"), "spec": {"model": {"digest": digest}}}
    told["status"]["serving"] = {"digest": digest}
    kubectl.write_text(
        f'#!/bin/sh\necho "$@" >> {asked}\n'
        f"case \"$*\" in *pods*) echo '{{\"items\": []}}';; *) echo '{json.dumps(told)}';; esac\n"
    )
    kubectl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    pushed = folder / "pushed.json"
    pushed.write_text(json.dumps({"uri": "s3://m/x.onnx", "digest": digest}))
    manifest = folder / "m.yaml"
    manifest.write_text(
        "apiVersion: slipway.dev/v1alpha1\nkind: ModelDeployment\n"
        "metadata: {name: fraud, namespace: payments}\n"
        'spec: {model: {digest: "sha256:0", uri: "s3://m/old.onnx"}}\n'
    )
    ended = slipway("deploy", "--pushed", pushed, "--file", manifest, "--json")
    assert ended.code == 0, ended.err
    looks = [line for line in asked.read_text().splitlines() if " get " in f" {line}"]
    assert looks
    assert all("payments" in line for line in looks), looks

"""`slipway deploy`, `status` and `rollback` against a real API server and the real operator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from cli_kit import models
from cli_kit.run import Ended, slipway
from operator_kit import pod_status
from operator_kit.operator_process import OperatorProcess
from operator_kit.space import MODEL, Space

from slipway_dev import binaries
from slipway_dev.cluster import Cluster
from slipway_dev.s3 import S3Server

Call = Callable[..., Ended]


@pytest.fixture
def call(cluster: Cluster, space: Space, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """Run a command in the test's namespace."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    monkeypatch.setenv("SLIPWAY_KUBECTL", str(binaries.path("kubectl")))
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()

    def run(name: str, *arguments: object) -> Ended:
        return slipway(name, *arguments, "--namespace", space.namespace)

    return run


@pytest.fixture
def pushed(space: Space, tmp_path: Path) -> Callable[[str], Path]:
    """What `slipway push --json` prints for a version of the artifact."""

    def write(version: str) -> Path:
        path = tmp_path / f"{version}.json"
        path.write_text(
            f'{{"uri": "s3://models/{MODEL}/{version}.onnx", "digest": "{space.digest(version)}"}}'
        )
        return path

    return write


@pytest.fixture
def store() -> Iterator[S3Server]:
    with S3Server("cli-deploy") as running:
        running.root_client().create_bucket(Bucket="models")
        yield running


def test_a_model_is_pushed_created_waited_for_and_replaced(
    call: Call,
    operator: OperatorProcess,
    space: Space,
    tmp_path: Path,
    store: S3Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", store.root.access)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", store.root.secret)
    place = ("--to", "s3://models/fraud", "--endpoint", store.endpoint)
    for bias in (1, 2):
        model = tmp_path / "model.onnx"
        model.write_bytes(models.linear(bias=bias))
        digest = models.digest_of(model.read_bytes())
        ended = call("deploy", model, *place, "--name", MODEL, "--replicas", 2, "--json")
        assert ended.code == 0, ended.err + ended.out
        assert ended.json["digest"] == ended.json["serving"]["digest"] == digest
        assert ended.json["ready"] is True
        assert ended.json["url"] == space.view().status["url"]
        spec = space.view().obj["spec"]
        assert spec["model"]["uri"] == ended.json["uri"]
        assert spec["model"]["storage"]["endpoint"] == store.endpoint
        assert spec["replicas"] == 2


def test_a_manifest_of_ones_own_is_edited_and_applied(
    call: Call, operator: OperatorProcess, space: Space, pushed: Callable[[str], Path]
) -> None:
    file = Path("fraud.yaml")
    file.write_text("# kept\n" + yaml.safe_dump(space.manifest()))
    ended = call("deploy", "--pushed", pushed("v2"), "--file", file)
    assert ended.code == 0, ended.err
    assert file.read_text().startswith("# kept\n")
    assert space.digest("v2") in file.read_text()
    assert space.view().serving == space.digest("v2")
    assert str(space.view().status["url"]) in ended.out


def test_a_rollout_that_fails_ends_with_the_status_reason(
    call: Call, operator: OperatorProcess, space: Space, pushed: Callable[[str], Path]
) -> None:
    space.settle()
    space.behave("v2", pod_status.fetch_fails(20, "DigestMismatch", "the bytes are others"))
    ended = call("deploy", "--pushed", pushed("v2"), "--name", MODEL)
    assert ended.code == 13
    assert "DigestMismatch: revision 2" in ended.err
    assert "the bytes are others" in ended.err
    assert "rolled back to revision 1" in ended.err
    told = call("status", MODEL)
    assert told.code == 0
    assert "failed: DigestMismatch" in told.out
    assert "last failure" in told.out


def test_a_rollout_that_is_not_over_in_time_says_where_it_stands(
    call: Call, operator: OperatorProcess, space: Space, pushed: Callable[[str], Path]
) -> None:
    space.behave("v1", pod_status.loading)
    ended = call("deploy", "--pushed", pushed("v1"), "--name", MODEL, "--timeout", 4)
    assert ended.code == 13
    assert "not ready after 4 s" in ended.err
    assert "1 loading" in ended.err


def test_a_person_goes_back_a_revision_and_returns(
    call: Call, operator: OperatorProcess, space: Space
) -> None:
    space.settle(version="v1")
    space.settle(version="v2")
    back = call("rollback", MODEL, "--json")
    assert back.code == 0, back.err
    assert back.json["reason"] == "RollbackRequested"
    assert space.view().serving == space.digest("v1")
    again = call("rollback", MODEL, "--undo")
    assert again.code == 0, again.err
    assert space.view().serving == space.digest("v2")
    unknown = call("rollback", MODEL, "--to", 17)
    assert unknown.code == 5
    assert "no revision 17" in unknown.err


def test_a_failed_rollout_is_accepted_by_going_back_to_what_serves(
    call: Call, operator: OperatorProcess, space: Space
) -> None:
    space.settle(version="v1")
    space.behave("v2", pod_status.fetch_fails(20, "DigestMismatch", "the bytes are others"))
    space.apply(version="v2")
    space.until("went back", lambda m: m.current and m.stalled == "RolledBack")
    ended = call("rollback", MODEL, "--json")
    assert ended.code == 0, ended.err
    assert ended.json["serving"]["digest"] == space.digest("v1")


def test_what_is_not_there_is_not_found(call: Call, operator: OperatorProcess) -> None:
    for name in ("status", "rollback"):
        ended = call(name, "absent")
        assert ended.code == 5
        assert "no ModelDeployment 'absent'" in ended.err


def test_a_model_that_is_suspended_is_no_failure_and_is_not_waited_for(
    call: Call, operator: OperatorProcess, space: Space, pushed: Callable[[str], Path]
) -> None:
    space.settle()
    space.apply(suspend=True)
    space.until("suspended", lambda m: m.current and "spec.suspend" in m.message)
    told = call("status", MODEL)
    assert "suspended: Suspended" in told.out
    assert "last: serving" in told.out
    ended = call("deploy", "--pushed", pushed("v2"), "--name", MODEL)
    assert ended.code == 13
    assert "Suspended: spec.suspend is true" in ended.err

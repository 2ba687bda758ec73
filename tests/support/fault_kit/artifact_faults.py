"""Ways to break an artifact or the storage that it lies in, and to mend them again."""

from __future__ import annotations

import json

from runtime_kit import onnx_models, packages

from fault_kit.stage import Change, Stage
from fault_kit.storage_proxy import Disturbance, StorageProxy
from slipway_dev.testbed import BUCKET, STORAGE_SECRET, Artifact

# Soon enough for the rows that wait for it.
SOON = {"rollout": {"progressDeadlineSeconds": 20}}


# ---- the artifact itself is wrong ----


def wrong_digest(stage: Stage) -> Change:
    return Change(Artifact(stage.another().uri, "sha256:" + "0" * 64))


def corrupt(stage: Stage) -> Change:
    return Change(stage.upload(onnx_models.linear()[:-40] + b"\xff" * 40))


def unknown_operator(stage: Stage) -> Change:
    return Change(stage.upload(onnx_models.unknown_operator()))


def future_opset(stage: Stage) -> Change:
    return Change(stage.upload(onnx_models.linear(opset=99)))


def fails_its_warm_up(stage: Stage) -> Change:
    return Change(stage.upload(onnx_models.fails_when_warm()))


def golden_mismatch(stage: Stage) -> Change:
    """A package whose samples are those of the version before."""
    x, y = [[1, 2, 3, 4]], [[41, 51]]
    files = {
        "model.onnx": ("model", onnx_models.linear(bias=2.0)),
        "golden.json": ("golden", packages.golden(({"x": x}, {"y": y}))),
    }
    return Change(stage.upload_package(files))


def golden_mismatch_of_the_spec(stage: Stage) -> Change:
    """A bare file, and samples in the resource that are those of the version before."""
    golden = json.loads(packages.golden(({"x": [[1, 2, 3, 4]]}, {"y": [[41, 51]]})))
    return Change(stage.upload(onnx_models.linear(bias=3.0)), spec={"golden": golden})


def larger_than_the_cache(stage: Stage) -> Change:
    large = stage.upload(onnx_models.linear(ballast=3 << 20))
    return Change(large, spec={"runtime": {"cacheSize": "2Mi"}})


def out_of_memory_at_load(stage: Stage) -> Change:
    return Change(stage.upload(onnx_models.grows_when_loaded(mebibytes=600)))


# ---- the storage ----


def not_there(stage: Stage) -> Artifact:
    """A good artifact that will come into the bucket only later."""
    artifact = stage.another()
    stage.testbed.s3.root_client().delete_object(Bucket=BUCKET, Key=_key(artifact))
    return artifact


def _key(artifact: Artifact) -> str:
    return artifact.uri.removeprefix(f"s3://{BUCKET}/")


def missing_object(stage: Stage) -> Change:
    return Change(not_there(stage))


def missing_object_until_the_deadline(stage: Stage) -> Change:
    return Change(not_there(stage), spec=SOON)


def missing_object_hidden(stage: Stage) -> Change:
    proxy = stage.proxy(Disturbance(hides_missing=True))
    return Change(not_there(stage), {"endpoint": proxy.url})


def denied_access(stage: Stage) -> Change:
    content = onnx_models.linear(bias=2.0)
    stage.testbed.s3.root_client().create_bucket(Bucket=stage.namespace)
    stage.testbed.s3.root_client().put_object(Bucket=stage.namespace, Key="m.onnx", Body=content)
    return Change(Artifact(f"s3://{stage.namespace}/m.onnx", stage.another().digest))


def allow_access(stage: Stage) -> None:
    stage.testbed.s3.allow_get(stage.namespace, STORAGE_SECRET)


def _secret(stage: Stage, data: dict[str, str]) -> None:
    obj = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "own", "namespace": stage.namespace},
        "stringData": data,
    }
    stage.api.patch("secrets", stage.namespace, "own", obj, "apply", manager="a-user", force="true")


def _good_keys(stage: Stage) -> dict[str, str]:
    user = stage.testbed.s3.create_user(stage.namespace, f"secret-of-{stage.namespace}")
    stage.testbed.s3.allow_get(BUCKET, user.access)
    return {"AWS_ACCESS_KEY_ID": user.access, "AWS_SECRET_ACCESS_KEY": user.secret}


def missing_secret(stage: Stage) -> Change:
    return Change(stage.another(), {"secretName": "own"})


def missing_key(stage: Stage) -> Change:
    _secret(stage, {"AWS_ACCESS_KEY_ID": stage.namespace})
    return Change(stage.another(), {"secretName": "own"})


def give_the_secret(stage: Stage) -> None:
    _secret(stage, _good_keys(stage))


def rotated_credentials(stage: Stage) -> Change:
    """The store knows a new secret already, the cluster's Secret still holds the old one."""
    keys = _good_keys(stage)
    _secret(stage, {**keys, "AWS_SECRET_ACCESS_KEY": "the-secret-before"})
    return Change(stage.another(), {"secretName": "own"})


def rotate_the_secret(stage: Stage) -> None:
    _secret(stage, {"AWS_SECRET_ACCESS_KEY": f"secret-of-{stage.namespace}"})


def _through(stage: Stage, disturbance: Disturbance | None) -> Change:
    """Ask for a new version through a proxy; without a disturbance the storage is down."""
    proxy = stage.proxy(disturbance)
    if disturbance is None:
        proxy.close()
    stage.notes["proxy"] = proxy
    return Change(stage.another(), {"endpoint": proxy.url})


def storage_down(stage: Stage) -> Change:
    return _through(stage, None)


def storage_silent(stage: Stage) -> Change:
    change = _through(stage, Disturbance(silent=True))
    return Change(change.artifact, change.storage, SOON)


def cut_connections(stage: Stage) -> Change:
    return _through(stage, Disturbance(cut_after=0))


def lies_about_length(stage: Stage) -> Change:
    return _through(stage, Disturbance(promises=1000))


def storage_behaves(stage: Stage) -> None:
    proxy: StorageProxy = stage.notes["proxy"]
    proxy.disturbance = Disturbance()
    if not proxy.listening:
        proxy.open()

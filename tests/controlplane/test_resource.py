"""The resource as users meet it: what is refused and in which words, defaults, kubectl's views."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from operator_kit.api import Api, ApiError
from operator_kit.installation import Installation
from operator_kit.operator_process import OperatorProcess
from operator_kit.space import Space

from slipway_dev import paths
from slipway_dev.cluster import Cluster

_DIGEST = "sha256:" + "0123456789abcdef" * 4
_HOW_TO_GET_IT = "digest must be 'sha256:' and 64 lower-case hex digits; get it with: sha256sum"
_URI = "uri must be s3://bucket/key, https://host/path, pvc://claim/path or file:///path"
_NAME = "metadata.name names a Service: at most 50 characters"
_SUPPORTED = 'supported values: "Rollback", "Hold"'

_TENSOR = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [[0.5, 2]]}

# What was written -> what the answer must say.
_REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "digest in upper case": ({"model.digest": _DIGEST.upper()}, _HOW_TO_GET_IT),
    "digest too short": ({"model.digest": _DIGEST[:-1]}, _HOW_TO_GET_IT),
    "digest too long": ({"model.digest": _DIGEST + "0"}, _HOW_TO_GET_IT),
    "digest without its algorithm": ({"model.digest": _DIGEST[7:]}, _HOW_TO_GET_IT),
    "digest of another algorithm": ({"model.digest": "md5:" + _DIGEST[7:]}, _HOW_TO_GET_IT),
    "digest with a line end": ({"model.digest": _DIGEST + "\n"}, _HOW_TO_GET_IT),
    "password in the uri": ({"model.uri": "https://u:p@host/x"}, "must hold no user name"),
    "password in the endpoint": (
        {"model.storage": {"endpoint": "http://u:p@host"}},
        "must hold no user name",
    ),
    "digest missing": ({"model.digest": None}, "spec.model.digest: Required value"),
    "uri missing": ({"model.uri": None}, "spec.model.uri: Required value"),
    "uri without a scheme": ({"model.uri": "models/fraud.onnx"}, _URI),
    "uri with an unknown scheme": ({"model.uri": "gs://models/fraud.onnx"}, _URI),
    "uri of a bucket alone": ({"model.uri": "s3://models"}, _URI),
    "uri of a relative file": ({"model.uri": "file://model.onnx"}, _URI),
    "uri of a claim alone": ({"model.uri": "pvc://models"}, _URI),
    "uri of a claim with an impossible name": ({"model.uri": "pvc://Models/m.onnx"}, _URI),
    "uri out of the claim": ({"model.uri": "pvc://models/../m.onnx"}, "not lead out of the claim"),
    "name with a dot": ({"name": "fraud.v1"}, _NAME),
    "name with a leading digit": ({"name": "1-fraud"}, _NAME),
    "name of 51 characters": ({"name": "f" * 51}, _NAME),
    "bounds the wrong way round": (
        {"autoscaling": {"minReplicas": 5, "maxReplicas": 2}},
        "minReplicas must not be above maxReplicas: raise maxReplicas or lower minReplicas",
    ),
    "autoscaling without an upper bound": (
        {"autoscaling": {"minReplicas": 2}},
        "spec.autoscaling.maxReplicas: Required value",
    ),
    "anonymous access with a Secret": (
        {"model.storage": {"anonymous": True, "secretName": "reader"}},
        "anonymous access and secretName exclude each other: remove one of them",
    ),
    "environment of the operator": (
        {"runtime.env": [{"name": "SLIPWAY_PORT", "value": "1"}]},
        "names beginning with SLIPWAY_ are set by the operator: use the fields threads, workers",
    ),
    "golden samples without outputs": (
        {"golden": {"samples": [{"inputs": [_TENSOR]}]}},
        "spec.golden.samples[0].outputs: Required value",
    ),
    "a golden tensor of no datatype": (
        {"golden": {"samples": [{"inputs": [_TENSOR | {"datatype": "float"}], "outputs": []}]}},
        'supported values: "BOOL"',
    ),
    "no workers": ({"runtime.workers": 0}, "from 1 to 64, or auto"),
    "workers in a word": ({"runtime.workers": "many"}, "from 1 to 64, or auto"),
    "environment named twice": (
        {"runtime.env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]},
        "Duplicate value",
    ),
    "environment with a bad name": (
        {"runtime.env": [{"name": "2A", "value": "1"}]},
        "spec.runtime.env[0].name",
    ),
    "negative replicas": ({"replicas": -1}, "should be greater than or equal to 0"),
    "replicas that are no number": ({"replicas": "two"}, "must be of type integer"),
    "bad quantity": (
        {"runtime.resources": {"limits": {"memory": "lots"}}},
        (
            '"lots" is not a quantity: write a number that is not negative, with a unit where one'
            " is meant, such as 500m, 2, 0.5Gi or 512Mi"
        ),
    ),
    "negative quantity": (
        {"runtime.resources": {"requests": {"cpu": -1}}},
        '"-1" is not a quantity',
    ),
    "bad cache size": (
        {"runtime.cacheSize": "2 GB"},
        (
            '"2 GB" is not a size: write bytes above 0, with a unit where one is meant, such as'
            " 512Mi, 0.5Gi or 65536; m means thousandths"
        ),
    ),
    "thousandths of a byte": ({"runtime.maxRequestSize": "64m"}, '"64m" is not a size'),
    "half a byte": ({"runtime.cacheSize": "0.5"}, '"0.5" is not a size'),
    "no byte": ({"runtime.maxRequestSize": 0}, '"0" is not a size'),
    "no gibibyte": ({"runtime.sharedMemory": "0.0Gi"}, '"0.0Gi" is not a size'),
    "network without its prefix": (
        {"networkPolicy": {"egressCidrs": ["10.0.0.1"]}},
        "must be a network: an address, a slash and the length of the prefix",
    ),
    "unknown failure policy": ({"rollout.onFailure": "Restart"}, _SUPPORTED),
    "unknown addressing style": (
        {"model.storage": {"addressingStyle": "dns"}},
        'supported values: "auto", "path", "virtual"',
    ),
    "endpoint without a scheme": (
        {"model.storage": {"endpoint": "s3.example.com"}},
        "endpoint must be a URL with its scheme, such as https://s3.example.com",
    ),
    "a provider that is both required and preferred": (
        {
            "runtime.providers": ["CUDAExecutionProvider", "CPUExecutionProvider"],
            "runtime.preferredProviders": ["CUDAExecutionProvider"],
        },
        "a provider is either required or preferred: remove it from providers or from",
    ),
    "a preference for the CPU": (
        {"runtime.preferredProviders": ["CPUExecutionProvider"]},
        "CPUExecutionProvider takes every node",
    ),
    "a preferred provider of no name": (
        {"runtime.preferredProviders": ["openvino"]},
        "spec.runtime.preferredProviders[0]",
    ),
    "a required provider of no name": (
        {"runtime.providers": ["cuda"]},
        "spec.runtime.providers[0]",
    ),
    "a surge in words": (
        {"rollout.maxSurge": "abc"},
        "must be a number of pods or a percentage of them, such as 1 or 25%",
    ),
    "fewer pods than none": (
        {"rollout.maxUnavailable": -1},
        "must be a number of pods or a percentage of them",
    ),
    "no provider at all": ({"runtime.providers": []}, "should have at least 1 items"),
    "threads of zero": ({"runtime.threads": {"intraOp": 0}}, "greater than or equal to 1"),
    "deadline of zero": ({"rollout.progressDeadlineSeconds": 0}, "greater than or equal to 1"),
    "empty pool": ({"pool": ""}, "spec.pool"),
}


def _manifest(name: str, changes: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = {"model": {"uri": "s3://models/fraud.onnx", "digest": _DIGEST}}
    for where, value in changes.items():
        if where == "name":
            name = value
            continue
        *parents, last = where.split(".")
        place = spec
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is None:
            place.pop(last)
        else:
            place[last] = value
    return {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name},
        "spec": spec,
    }


def _named(case: str) -> dict[str, Any]:
    return _manifest(re.sub(r"[^a-z0-9]+", "-", case), _REFUSED[case][0])


@pytest.fixture(scope="module")
def answers(cluster: Cluster, installation: Installation) -> dict[str, str]:
    """What one ``kubectl apply`` of all bad manifests says about each, by name."""
    manifests = yaml.safe_dump_all([_named(case) for case in _REFUSED])
    told = cluster.kubectl(
        "apply", "--dry-run=server", "-f", "-", input=manifests, check=False
    ).stderr
    found: dict[str, str] = {}
    for complaint in re.split(r"\n(?=The ModelDeployment|Error from server)", told):
        for case in _REFUSED:
            name = _named(case)["metadata"]["name"]
            if f'"{name}"' in complaint:
                found[case] = complaint
    return found


@pytest.mark.parametrize("case", _REFUSED)
def test_a_mistake_is_refused_in_words_that_say_how_to_mend_it(
    case: str, answers: dict[str, str]
) -> None:
    assert case in answers, f"accepted, or refused in other words: {sorted(answers)}"
    assert _REFUSED[case][1] in answers[case]


def test_a_misspelt_field_is_refused(cluster: Cluster, installation: Installation) -> None:
    manifest = yaml.safe_dump(_manifest("misspelt", {"replica": 2}))
    told = cluster.kubectl("apply", "-f", "-", input=manifest, check=False)
    assert told.returncode != 0
    assert 'unknown field "spec.replica"' in told.stderr


def test_a_name_of_50_characters_is_served(operator: OperatorProcess, space: Space) -> None:
    assert space.settle("f" * 50).status["readyReplicas"] == 1


def test_an_absent_field_gets_a_default_only_where_no_pool_has_a_say(
    api: Api, installation: Installation
) -> None:
    made = api.request(
        "POST",
        "/apis/slipway.dev/v1alpha1/namespaces/default/modeldeployments",
        {"dryRun": "All"},
        _manifest("defaults", {"model.storage": {"caBundle": {"configMapName": "corp"}}}),
    )
    spec = made["spec"]
    assert spec.pop("model")["storage"]["caBundle"] == {"configMapName": "corp", "key": "ca.crt"}
    assert spec == {"pool": "cpu", "replicas": 1, "suspend": False}


def test_status_cannot_be_written_with_the_spec(api: Api, space: Space) -> None:
    manifest = {**space.manifest(), "status": {"replicas": 7}}
    made = api.create("modeldeployments", manifest, space.namespace)
    assert "replicas" not in made.get("status", {})


def test_the_spec_cannot_be_written_with_the_status(api: Api, space: Space) -> None:
    space.apply()
    wanted = {"spec": {"replicas": 7}, "status": {"replicas": 7}}
    made = api.patch("modeldeployments", space.namespace, "fraud", wanted, subresource="status")
    assert (made["spec"]["replicas"], made["status"]["replicas"]) == (1, 7)


def test_an_unknown_condition_status_is_refused(api: Api, space: Space) -> None:
    space.apply()
    condition = {
        "type": "Ready",
        "status": "Maybe",
        "reason": "No",
        "message": "",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    with pytest.raises(ApiError, match="supported values"):
        api.patch(
            "modeldeployments",
            space.namespace,
            "fraud",
            {"status": {"conditions": [condition]}},
            subresource="status",
        )


# ---- kubectl ----


def test_the_definition_is_small_enough_for_a_plain_apply(
    cluster: Cluster, installation: Installation
) -> None:
    (definition,) = (paths.repository() / "crds").glob("*.yaml")
    assert len(definition.read_bytes()) < 256 * 1024
    # The second apply is the one that compares with the annotation of the first.
    assert "unchanged" in cluster.kubectl("apply", "-f", definition).stdout
    kept = cluster.get("crd/modeldeployments.slipway.dev")["metadata"]["annotations"]
    assert len(kept["kubectl.kubernetes.io/last-applied-configuration"]) < 256 * 1024


@pytest.mark.parametrize(
    "example", sorted((paths.repository() / "examples").glob("*.yaml")), ids=lambda p: p.stem
)
def test_an_example_is_accepted(
    example: Path, cluster: Cluster, installation: Installation
) -> None:
    said = cluster.kubectl("apply", "--dry-run=server", "-f", example).stdout
    assert re.search(r"modeldeployment.slipway.dev/\S+ created \(server dry run\)", said)


@pytest.mark.parametrize(
    ("field", "says"),
    [
        ("mdep", "An ONNX model, pinned by digest"),
        ("mdep.spec.model.digest", "SHA-256 of the artifact"),
        ("mdep.spec.rollout.onFailure", "Rollback: return to the last good revision"),
        ("mdep.spec.model.storage.secretName", "AWS_ACCESS_KEY_ID"),
        ("mdep.status.serving", "What answers requests now"),
    ],
)
def test_kubectl_explains(
    field: str, says: str, cluster: Cluster, installation: Installation
) -> None:
    told = " ".join(cluster.kubectl("explain", field).stdout.split())
    assert says in told


def test_kubectl_shows_what_a_person_looks_for(
    operator: OperatorProcess, space: Space, cluster: Cluster
) -> None:
    space.settle()
    heading, row = cluster.kubectl("get", "mdep", "-n", space.namespace).stdout.splitlines()
    assert heading.split() == ["NAME", "READY", "REASON", "DIGEST", "POOL", "REPLICAS", "AGE"]
    shown = row.split()
    assert shown[:-1] == ["fraud", "True", "Serving", space.digest("v1")[7:19], "cpu", "1"]
    wide = cluster.kubectl("get", "mdep", "-n", space.namespace, "-o", "wide").stdout
    assert f"http://fraud.{space.namespace}.svc" in wide
    for category in ("slipway", "all"):
        listed = cluster.kubectl("get", category, "-n", space.namespace, "-o", "name").stdout
        assert "modeldeployment.slipway.dev/fraud" in listed


def test_kubectl_scales_and_waits(
    operator: OperatorProcess, space: Space, cluster: Cluster
) -> None:
    space.settle()
    cluster.kubectl("scale", "mdep/fraud", "--replicas=3", "-n", space.namespace)
    cluster.kubectl(
        "wait",
        "mdep/fraud",
        "--for=jsonpath={.status.readyReplicas}=3",
        "--timeout=30s",
        "-n",
        space.namespace,
    )
    cluster.kubectl(
        "wait", "mdep/fraud", "--for=condition=Ready", "--timeout=30s", "-n", space.namespace
    )
    assert space.deployment()["spec"]["replicas"] == 3

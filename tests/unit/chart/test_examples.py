"""The manifests in examples/ are ones that the API server takes."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from slipway_operator.api.crd import manifest
from slipway_operator.api.spec import ModelDeploymentSpec

EXAMPLES = sorted((Path(__file__).resolve().parents[3] / "examples").glob("*.yaml"))


def closed(node):
    """The schema with unknown fields refused, as `kubectl apply` does."""
    if isinstance(node, list):
        return [closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    out = {key: closed(value) for key, value in node.items()}
    if isinstance(node.get("properties"), dict):
        out.setdefault("additionalProperties", False)
    # JSON Schema has no type for these; Kubernetes marks them beside `anyOf`.
    if node.get("x-kubernetes-int-or-string"):
        out.pop("type", None)
    return out


@pytest.fixture(scope="module")
def validator():
    schema = manifest()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    metadata = {"type": "object", "additionalProperties": True}
    schema = {**schema, "properties": {**schema["properties"], "metadata": metadata}}
    return jsonschema.Draft7Validator(closed(schema))


def models(path: Path):
    documents = yaml.safe_load_all(path.read_text())
    return [item for item in documents if item["kind"] == "ModelDeployment"]


def test_there_is_an_example_for_cpu_gpu_and_a_private_bucket():
    assert {path.stem for path in EXAMPLES} >= {"cpu", "gpu", "private-s3"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_valid(path: Path, validator):
    for model in models(path):
        validator.validate(model)
        ModelDeploymentSpec.model_validate(model["spec"])


def test_an_unknown_field_is_noticed(validator):
    (model,) = models(EXAMPLES[0])
    model["spec"]["modle"] = {}
    with pytest.raises(jsonschema.ValidationError, match="modle"):
        validator.validate(model)


def test_an_example_refers_only_to_what_it_brings_or_says():
    documents = list(yaml.safe_load_all(EXAMPLES[-1].read_text()))
    brought = {(item["kind"], item["metadata"]["name"]) for item in documents}
    storage = models(EXAMPLES[-1])[0]["spec"]["model"]["storage"]
    assert ("Secret", storage["secretName"]) in brought
    assert ("ConfigMap", storage["caBundle"]["configMapName"]) in brought

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


def test_an_example_says_how_to_make_what_it_refers_to_and_overwrites_no_secret():
    path = next(path for path in EXAMPLES if path.stem == "private-s3")
    text, documents = path.read_text(), list(yaml.safe_load_all(path.read_text()))
    storage = models(path)[0]["spec"]["model"]["storage"]
    assert f"create secret generic {storage['secretName']}" in text
    assert f"create configmap {storage['caBundle']['configMapName']}" in text
    assert [item["kind"] for item in documents] == ["ModelDeployment"]

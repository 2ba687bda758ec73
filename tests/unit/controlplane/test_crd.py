"""The CustomResourceDefinition is what the models say, small, and explained field by field."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_cluster import pods, samples
from fake_cluster.world import World

from slipway_operator.api.crd import manifest
from slipway_operator.api.spec import ModelDeploymentSpec
from slipway_operator.reconcile import kinds

ROOT = Path(__file__).parents[3]
Json = dict[str, Any]
(VERSION,) = manifest()["spec"]["versions"]
SCHEMA: Json = VERSION["schema"]["openAPIV3Schema"]


def fields(schema: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    for name, below in schema.get("properties", {}).items():
        yield f"{path}.{name}", below
        yield from fields(below, f"{path}.{name}")
    if isinstance(schema.get("items"), dict):
        yield from fields(schema["items"], f"{path}[]")


FIELDS = {
    path: schema
    for part in ("spec", "status")
    for path, schema in fields(SCHEMA["properties"][part], part)
}


def test_the_file_is_what_the_models_render():
    assert yaml.safe_load((ROOT / "crds/modeldeployments.yaml").read_text()) == manifest()


def test_it_is_small_enough_for_kubectl_apply():
    """The whole manifest goes into an annotation, and those may hold 256 KiB."""
    assert len((ROOT / "crds/modeldeployments.yaml").read_bytes()) < 256 * 1024


@pytest.mark.parametrize("path", FIELDS)
def test_every_field_is_explained(path):
    assert FIELDS[path].get("description", "").endswith((".", ".)"))


@pytest.mark.parametrize("path", FIELDS)
def test_the_schema_is_structural(path):
    schema = FIELDS[path]
    assert not {"$ref", "$defs", "title", "oneOf", "allOf", "nullable"} & schema.keys()
    assert "type" in schema or "x-kubernetes-int-or-string" in schema
    assert schema.get("default", 0) is not None


def test_every_rule_has_a_message_that_says_how_to_mend():
    def rules(schema: Any) -> Iterator[Json]:
        if isinstance(schema, dict):
            yield from schema.get("x-kubernetes-validations", [])
            for value in schema.values():
                yield from rules(value)

    found = list(rules(SCHEMA))
    assert len(found) >= 5
    for rule in found:
        assert rule["message"]
        assert len(rule["message"]) > 30


def test_nothing_that_a_pool_may_set_has_a_default():
    for part in ("runtime", "rollout", "template"):
        below = dict(fields(SCHEMA["properties"]["spec"]["properties"][part]))
        with_default = {path for path, schema in below.items() if "default" in schema}
        assert with_default <= {".onFailure", ".env[].value"}


def test_replicas_have_one_since_the_scale_subresource_needs_a_value():
    assert FIELDS["spec.replicas"]["default"] == 1
    assert VERSION["subresources"]["scale"]["specReplicasPath"] == ".spec.replicas"


def test_the_columns_show_fields_that_there_are():
    for column in VERSION["additionalPrinterColumns"]:
        path = column["jsonPath"].removeprefix(".").split("[")[0]
        assert path in FIELDS or path == "metadata.creationTimestamp"


@pytest.mark.parametrize("story", ["serving", "rolled back", "suspended", "refused"])
async def test_every_status_that_is_written_fits_the_schema(world: World, story):
    jsonschema = pytest.importorskip("jsonschema")
    world.apply(digest=samples.A, suspend=story == "suspended")
    await world.run()
    if story == "rolled back":
        world.behaviours["b"] = pods.fetch_ends(20)
        world.apply(digest=samples.B)
    elif story == "refused":
        world.apply(pool="tpu")
    await world.run()
    schema = SCHEMA["properties"]["status"]
    jsonschema.validate(world.status, schema)
    assert unknown(world.status, schema) == []


def unknown(value: Any, schema: Json, path: str = "") -> list[str]:
    """Fields that the API server would prune, so that they would be written again for ever."""
    if isinstance(value, list):
        return [p for item in value for p in unknown(item, schema["items"], path + "[]")]
    if not isinstance(value, dict):
        return []
    known = schema.get("properties", {})
    below = [p for k, v in value.items() if k in known for p in unknown(v, known[k], f"{path}.{k}")]
    return [f"{path}.{key}" for key in value if key not in known] + below


def test_an_object_with_every_default_is_read_as_one_without():
    """What the API server fills in is what the models would."""

    def filled(schema: Json) -> Any:
        if "properties" not in schema:
            return schema.get("default")
        return {
            name: filled(below)
            for name, below in schema["properties"].items()
            if "default" in below
        }

    plain = samples.spec()
    with_defaults = {**filled(SCHEMA["properties"]["spec"]), **plain}
    assert ModelDeploymentSpec.model_validate(with_defaults) == ModelDeploymentSpec.model_validate(
        plain
    )


def test_kinds_and_names_agree():
    names = manifest()["spec"]["names"]
    assert names["plural"] == kinds.MODEL_DEPLOYMENT.plural
    assert names["shortNames"] == ["mdep"]

"""values.yaml and values.schema.json know the same values."""

import json
from pathlib import Path

import pytest
import yaml


@pytest.fixture(scope="module")
def schema(chart: Path):
    return json.loads((chart / "values.schema.json").read_text())


def test_every_value_is_in_the_schema_and_every_property_in_the_values(chart: Path, schema):
    values = yaml.safe_load((chart / "values.yaml").read_text())

    def resolved(node):
        return schema["definitions"][node["$ref"].rsplit("/", 1)[-1]] if "$ref" in node else node

    def compare(value, node, path):
        node = resolved(node)
        if value == {} and path == ".watch.selector":
            return  # Kubernetes' own structure, empty by default.
        if "properties" not in node:
            if path == ".pools":
                for name, pool in value.items():
                    compare(pool, node["additionalProperties"], f"{path}.{name}")
            return
        assert node["additionalProperties"] is False, path
        # `global` is what Helm itself adds when the chart is a dependency of another.
        assert set(value) == set(node["properties"]) - {"global"}, path
        for key, child in value.items():
            compare(child, node["properties"][key], f"{path}.{key}")

    compare(values, schema, "")

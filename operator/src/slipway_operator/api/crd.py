"""Renders the CustomResourceDefinition from the pydantic models.

A structural schema knows no ``$ref``, ``title`` or ``null`` type; everything else is passed on as
the models say it. ``python -m slipway_operator.api.crd`` prints the manifest.
"""

from typing import Any, cast

import yaml

from slipway_operator.api.names import GROUP, KIND, PLURAL, SHORT_NAME, SINGULAR, VERSION
from slipway_operator.api.schema import cel
from slipway_operator.api.spec import ModelDeploymentSpec
from slipway_operator.api.status import ModelDeploymentStatus

JsonSchema = dict[str, Any]

_DROPPED = {"title", "$defs"}


def _resolve(node: Any, defs: dict[str, JsonSchema]) -> Any:
    """Inline references, unwrap ``X | null`` into X, and drop what a structural schema refuses."""
    if isinstance(node, list):
        return [_resolve(item, defs) for item in cast("list[Any]", node)]
    if not isinstance(node, dict):
        return node
    schema = dict(cast("JsonSchema", node))
    if "$ref" in schema:
        schema = {**defs[schema.pop("$ref").rsplit("/", 1)[-1]], **schema}
    variants = schema.get("anyOf")
    if isinstance(variants, list) and {"type": "null"} in variants:
        (variant,) = [v for v in cast("list[JsonSchema]", variants) if v != {"type": "null"}]
        schema.pop("anyOf")
        schema = {**variant, **schema}
        return _resolve(schema, defs)
    if schema.get("default", ...) is None:
        schema.pop("default")
    properties = schema.get("properties")
    out = {
        key: _resolve(value, defs)
        for key, value in schema.items()
        if key not in _DROPPED and key != "properties"
    }
    if properties is not None:
        out["properties"] = {
            name: _resolve(value, defs)
            for name, value in cast("dict[str, JsonSchema]", properties).items()
        }
    if out.get("additionalProperties") is True:
        out.pop("additionalProperties")
    return out


def structural_schema(model: type[ModelDeploymentSpec] | type[ModelDeploymentStatus]) -> JsonSchema:
    """The structural OpenAPI v3 schema of one model, defaults included."""
    schema = model.model_json_schema(by_alias=True)
    return cast("JsonSchema", _resolve(schema, schema.get("$defs", {})))


_COLUMNS: list[dict[str, Any]] = [
    {
        "name": "Ready",
        "type": "string",
        "jsonPath": ".status.conditions[?(@.type=='Ready')].status",
    },
    {
        "name": "Reason",
        "type": "string",
        "jsonPath": ".status.conditions[?(@.type=='Ready')].reason",
    },
    {"name": "Digest", "type": "string", "jsonPath": ".status.serving.version"},
    {"name": "Pool", "type": "string", "jsonPath": ".spec.pool"},
    {"name": "Replicas", "type": "integer", "jsonPath": ".status.readyReplicas"},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    {
        "name": "Message",
        "type": "string",
        "priority": 1,
        "jsonPath": ".status.conditions[?(@.type=='Ready')].message",
    },
    {"name": "URL", "type": "string", "priority": 1, "jsonPath": ".status.url"},
]


def manifest() -> dict[str, Any]:
    """The CustomResourceDefinition as it is installed."""
    schema: JsonSchema = {
        "type": "object",
        "description": "An ONNX model, pinned by digest, served on a pool of nodes.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural_schema(ModelDeploymentSpec),
            # kstatus takes an object without a status for done; this one says "not looked at yet".
            "status": {
                **structural_schema(ModelDeploymentStatus),
                "default": {"observedGeneration": -1},
            },
        },
        "x-kubernetes-validations": [
            cel(
                "self.metadata.name.size() <= 50 && "
                "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
                "metadata.name names a Service: at most 50 characters, lower-case letters, digits "
                "and '-', beginning with a letter and ending with a letter or digit",
            )
        ],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": SINGULAR,
                "shortNames": [SHORT_NAME],
                "categories": ["all", "slipway"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "additionalPrinterColumns": _COLUMNS,
                }
            ],
        },
    }


def main() -> None:
    """Print the manifest as YAML."""
    header = "# Generated from the operator's models by `make generate`. Do not edit.\n"
    print(header + yaml.safe_dump(manifest(), sort_keys=False, width=100), end="")


if __name__ == "__main__":
    main()

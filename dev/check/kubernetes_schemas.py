"""JSON schemas of Kubernetes' own kinds, for kubeconform.

kubeconform would download them. Ours come from the OpenAPI document inside the Go module that the
test cluster is built from: the same version, pinned by the same checksum, and no network.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from slipway_operator.api.crd import manifest

KINDS = {
    ("", "v1", "ConfigMap"),
    ("", "v1", "Namespace"),
    ("", "v1", "Secret"),
    ("", "v1", "Service"),
    ("", "v1", "ServiceAccount"),
    ("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
    ("apps", "v1", "Deployment"),
    ("networking.k8s.io", "v1", "NetworkPolicy"),
    ("policy", "v1", "PodDisruptionBudget"),
    ("rbac.authorization.k8s.io", "v1", "ClusterRole"),
    ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io", "v1", "Role"),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding"),
}

Schema = dict[str, Any]
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"


def write(root: Path, folder: Path) -> str:
    """Write one schema a kind into the folder; return the location as kubeconform wants it."""
    for (_, version, kind), schema in _builtin(_openapi(root)):
        _save(folder, kind, version, schema)
    crd = manifest()["spec"]
    version = crd["versions"][0]
    schema = {**version["schema"]["openAPIV3Schema"], "additionalProperties": False}
    _save(folder, crd["names"]["kind"], version["name"], schema)
    return f"{folder}/{{{{ .ResourceKind }}}}-{{{{ .ResourceAPIVersion }}}}.json"


def _save(folder: Path, kind: str, version: str, schema: Schema) -> None:
    (folder / f"{kind.lower()}-{version}.json").write_text(json.dumps(_strict(schema)))


def _openapi(root: Path) -> dict[str, Schema]:
    command = ["go", "mod", "download", "-json", "k8s.io/kubernetes"]
    module = root / "dev/tools/kubernetes"
    done = subprocess.run(command, cwd=module, check=True, capture_output=True, text=True)
    source = Path(json.loads(done.stdout)["Dir"])
    document = json.loads((source / "api/openapi-spec/swagger.json").read_text())
    return document["definitions"]


def _builtin(definitions: dict[str, Schema]) -> Iterator[tuple[tuple[str, str, str], Schema]]:
    for name, definition in definitions.items():
        for gvk in definition.get("x-kubernetes-group-version-kind", []):
            key = (gvk["group"], gvk["version"], gvk["kind"])
            if key in KINDS:
                needed = {used: definitions[used] for used in _reachable(name, definitions)}
                yield key, {"$ref": f"#/definitions/{name}", "definitions": needed}


def _reachable(name: str, definitions: dict[str, Schema]) -> set[str]:
    seen: set[str] = set()
    todo = [name]
    while todo:
        current = todo.pop()
        if current not in seen:
            seen.add(current)
            todo += _references(definitions[current])
    return seen


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in cast("Schema", node).items():
            if key == "$ref" and isinstance(value, str):
                yield value.rsplit("/", 1)[-1]
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for item in cast("list[Any]", node):
            yield from _references(item)


def _strict(node: Any, name: str = "") -> Any:
    """A schema that refuses unknown fields and knows Kubernetes' two types of mixed values."""
    if isinstance(node, list):
        return [_strict(item) for item in cast("list[Any]", node)]
    if not isinstance(node, dict):
        return node
    schema = {key: _strict(value, key) for key, value in cast("Schema", node).items()}
    if name == _QUANTITY or schema.get("format") == "int-or-string":
        schema.pop("format", None)
        schema["type"] = ["string", "number"]
    if (
        isinstance(schema.get("properties"), dict)
        and schema.get("type") == "object"
        and not schema.get("x-kubernetes-preserve-unknown-fields")
    ):
        schema.setdefault("additionalProperties", False)
    return schema

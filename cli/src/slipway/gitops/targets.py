"""Where a YAML file says which artifact is served.

Found without a path: ModelDeployments, alone, in files of several documents, in a List, and
as partial ones (strategic merge patches); JSON patches of /spec/model/digest; and both within a
kustomization.yaml. Anything else, such as Helm values, is found by the path that is given.
"""

from __future__ import annotations

from dataclasses import dataclass

from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from slipway.errors import InvalidArguments, NotFound
from slipway.gitops.scalars import Document, get, items, pairs, read, value

_GROUP = "slipway.dev/"
_KIND = "ModelDeployment"
_DIGEST_POINTER = "/spec/model/digest"
_URI_POINTER = "/spec/model/uri"


@dataclass(frozen=True)
class Target:
    """A digest, and the uri beside it if there is one; ``name`` is the model's, or a path.

    ``namespace`` is empty where it is not said.
    """

    document: Document
    name: str
    digest: Node
    uri: Node | None
    namespace: str = ""


def find(
    text: str, where: str, *, name: str | None, path: str | None, namespace: str | None = None
) -> list[Target]:
    """Return what is to be set in a file: of one model, or at one path.

    ``namespace`` chooses where a file has the model in several.

    Raises:
        InvalidArguments: several models, and no name that says which.
        NotFound: there is none.
    """
    documents = read(text, where)
    if path is not None:
        return _at_path(documents, where, path)
    found = [target for document in documents for target in _in(document, document.root, "")]
    if name is not None:
        found = [target for target in found if target.name in (name, "")]
    names = sorted({target.name for target in found})
    if len(names) > 1:
        raise InvalidArguments(
            f"{where} has several ModelDeployments: {', '.join(names)}", "say which with --name"
        )
    spaces = sorted({target.namespace for target in found if target.namespace})
    if len(spaces) > 1:
        if namespace not in spaces:
            raise InvalidArguments(
                f"{where} has {names[0]!r} in several namespaces: {', '.join(spaces)}",
                "say which with --namespace",
            )
        found = [target for target in found if target.namespace in (namespace, "")]
    if not found:
        called = f" called {name}" if name else ""
        raise NotFound(
            f"{where} has no ModelDeployment{called} whose spec.model.digest could be set",
            "for Helm values give --path, such as --path model.digest",
        )
    return found


def _at_path(documents: list[Document], where: str, path: str) -> list[Target]:
    keys = [key for key in path.replace("[", ".").replace("]", "").split(".") if key]
    for document in documents:
        node = get(document.root, *keys)
        if node is not None:
            return [Target(document, path, node, get(document.root, *keys[:-1], "uri"))]
    raise NotFound(
        f"{where} has nothing at {path}", "the path leads to the digest, such as model.digest"
    )


def _in(document: Document, node: Node | None, name: str, namespace: str = "") -> list[Target]:
    """Find targets in a document; ``name`` is known from outside, such as a patch's target."""
    if isinstance(node, SequenceNode):
        return _json_patch(document, node, name, namespace)
    if not isinstance(node, MappingNode):
        return []
    if value(get(node, "kind")) == _KIND and value(get(node, "apiVersion")).startswith(_GROUP):
        digest = get(node, "spec", "model", "digest")
        called = value(get(node, "metadata", "name")) or name
        uri = get(node, "spec", "model", "uri")
        space = value(get(node, "metadata", "namespace")) or namespace
        return [Target(document, called, digest, uri, space)] if digest is not None else []
    if value(get(node, "kind")) == "List":
        return [t for item in items(get(node, "items")) for t in _in(document, item, "")]
    return [t for key, item in pairs(node) for t in _patches(document, value(key), item)]


def _patches(document: Document, key: str, node: Node) -> list[Target]:
    """Find targets in what a kustomization has below ``patches`` and its older forms."""
    if key not in ("patches", "patchesJson6902", "patchesStrategicMerge"):
        return []
    found: list[Target] = []
    for item in items(node):
        kind = value(get(item, "target", "kind"))
        patch = get(item, "patch") if isinstance(item, MappingNode) else item
        if patch is None or kind not in ("", _KIND):
            continue
        name, space = (value(get(item, "target", key)) for key in ("name", "namespace"))
        for inner in document.inside(patch):
            found += _in(inner, inner.root, name, space)
    return found


def _json_patch(document: Document, node: Node, name: str, namespace: str) -> list[Target]:
    values = {
        value(get(item, "path")): get(item, "value")
        for item in items(node)
        if value(get(item, "op")) in ("replace", "add")
    }
    digest = values.get(_DIGEST_POINTER)
    if digest is None:
        return []
    return [Target(document, name, digest, values.get(_URI_POINTER), namespace)]

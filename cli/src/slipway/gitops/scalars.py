"""YAML read for the places of its values, so that one value can be replaced and no other byte."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass
from typing import Any, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from slipway.errors import InvalidArguments

_BLOCK = ("|", ">")


@dataclass(frozen=True)
class Replacement:
    """Characters ``start`` to ``end`` of a text become ``new``; ``old`` is the value there."""

    start: int
    end: int
    old: str
    new: str


class Document:
    """One YAML document of a text, and where in the text its nodes stand."""

    def __init__(self, root: Node, text: str, offsets: list[int] | None = None) -> None:
        self.root = root
        self._text = text
        self._offsets = offsets
        self._shared = _shared(root)

    def replacement(self, node: Node, new: str) -> Replacement:
        """Return what it takes to give a scalar another value, in its own quotes.

        Raises:
            InvalidArguments: it is no plain or quoted scalar, or stands under an anchor that is
                used more than once.
        """
        if not isinstance(node, ScalarNode) or _style(node) in _BLOCK:
            raise InvalidArguments("what is to be set is not a plain or quoted text")
        if id(node) in self._shared:
            raise InvalidArguments(
                f"{value(node)!r} is shared by an anchor, so setting it would change other places",
                "write the value out where it is to be set",
            )
        start, end = _span(node)
        raw, old = self._text[start:end], value(node)
        if not raw:
            # YAML's marks do not tell where a value that is not written would stand.
            raise InvalidArguments("what is to be set has no value yet", 'write "" there first')
        if not old:
            quote = raw[-1] if raw[-1] in "'\"" else ""
            return self._moved(Replacement(start, end, old, f"{quote}{new}{quote}"))
        at = raw.rfind(old)
        if at < 0:
            raise InvalidArguments(f"{raw!r} is written in a way that cannot be replaced safely")
        return self._moved(Replacement(start + at, start + at + len(old), old, new))

    def inside(self, node: Node) -> list[Document]:
        """Read a literal block as YAML of its own, as kustomize has patches; [] if it is none."""
        if not isinstance(node, ScalarNode) or _style(node) != "|" or self._offsets is not None:
            return []
        start, end = _span(node)
        header, _, body = self._text[start:end].partition("\n")
        first = next((line for line in body.splitlines() if line.strip()), "")
        indent = len(first) - len(first.lstrip(" "))
        inner: list[str] = []
        offsets: list[int] = []
        at = start + len(header) + 1
        for line in body.splitlines(keepends=True):
            cut = min(indent, len(line) - len(line.lstrip(" ")))
            inner.append(line[cut:])
            offsets += range(at + cut, at + len(line))
            at += len(line)
        text = "".join(inner)
        try:
            return [Document(root, text, [*offsets, at]) for root in _compose(text)]
        except YAMLError:
            return []

    def _moved(self, found: Replacement) -> Replacement:
        if self._offsets is None:
            return found
        start, end = self._offsets[found.start], self._offsets[found.end - 1] + 1
        return Replacement(start, max(start, end), found.old, found.new)


def read(text: str, where: str) -> list[Document]:
    """Read all documents of a text.

    Raises:
        InvalidArguments: it is no YAML.
    """
    try:
        return [Document(root, text) for root in _compose(text)]
    except MarkedYAMLError as error:
        found = cast("Any", error)
        line = f", line {found.problem_mark.line + 1}" if found.problem_mark else ""
        template = "{{" in text
        raise InvalidArguments(
            f"{where}{line} is no YAML: {found.problem}",
            "a Helm template cannot be edited: keep the digest in values.yaml" if template else "",
        ) from None
    except YAMLError as error:
        raise InvalidArguments(f"{where} is no YAML: {error}") from None


def apply(text: str, replacements: list[Replacement]) -> str:
    """Return the text with its replacements made."""
    for item in sorted(replacements, key=lambda item: item.start, reverse=True):
        text = text[: item.start] + item.new + text[item.end :]
    return text


def value(node: Node | None) -> str:
    """Return a scalar's text; "" for anything else."""
    return str(cast("Any", node).value) if isinstance(node, ScalarNode) else ""


def get(node: Node | None, *path: str) -> Node | None:
    """Follow keys, and indexes of lists, from a node; None where they lead nowhere."""
    for key in path:
        if isinstance(node, MappingNode):
            node = next((item for name, item in pairs(node) if value(name) == key), None)
        elif isinstance(node, SequenceNode) and key.isdigit():
            found = items(node)
            node = found[int(key)] if int(key) < len(found) else None
        else:
            return None
    return node


def pairs(node: Node | None) -> list[tuple[Node, Node]]:
    """Return the keys and values of a mapping; [] for anything else."""
    return cast("Any", node).value if isinstance(node, MappingNode) else []


def items(node: Node | None) -> list[Node]:
    """Return the members of a list; [] for anything else."""
    return cast("Any", node).value if isinstance(node, SequenceNode) else []


def _span(node: Node) -> tuple[int, int]:
    marked = cast("Any", node)
    return int(marked.start_mark.index), int(marked.end_mark.index)


def _style(node: Node) -> str | None:
    return cast("Any", node).style


def _compose(text: str) -> list[Node]:
    found: Any = cast("Any", YAML(typ="rt", pure=True)).compose_all(io.StringIO(text))
    return [root for root in found if root is not None]


def _shared(root: Node) -> set[int]:
    """Return the ids of all nodes that an anchor shares between several places."""
    counts: Counter[int] = Counter()
    _count(root, counts)
    return {identity for identity, count in counts.items() if count > 1}


def _count(node: Node, counts: Counter[int]) -> None:
    counts[id(node)] += 1
    for below in (*(item for pair in pairs(node) for item in pair), *items(node)):
        _count(below, counts)

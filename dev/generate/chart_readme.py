"""The chart's README: its table of values comes from the comments in values.yaml."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import markdown_table
import yaml

CHART = "charts/slipway"

_INTRO = """\
<!-- Generated from values.yaml by `make generate`. Do not edit. -->
# The Slipway chart

Installs the operator that serves `ModelDeployment` resources, and their CustomResourceDefinition.
Kubernetes 1.29 or later, Helm 3.17 or later (Helm 4 included).

    helm install slipway charts/slipway --namespace slipway-system --create-namespace \\
      --set registry=registry.example.com/ml

How to install it for some namespaces only, which rights it takes and why, and how to upgrade and
remove it: [docs/install.md](../../docs/install.md). The resource itself:
[docs/resource.md](../../docs/resource.md).

## Values
"""


@dataclass(frozen=True)
class Value:
    """One value of the chart: its path, its default and the comment above it."""

    path: str
    default: str | None
    comment: str


def values(text: str) -> list[Value]:
    """Every value of a commented values.yaml, in the file's order.

    Maps and lists written in one line ({...}, [...]) are values; maps written as blocks are
    sections, which have a comment but no default.
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise TypeError("values.yaml must hold a mapping")
    return list(_walk(root, "", text))


def _walk(node: yaml.MappingNode, prefix: str, text: str) -> Iterator[Value]:
    for key, child in node.value:
        # A key with a dot, such as a label's, is written as Helm's --set wants it.
        path = f"{prefix}{str(key.value).replace('.', chr(92) + '.')}"
        comment = _comment_above(text.splitlines(), key.start_mark.line)
        if isinstance(child, yaml.MappingNode) and not child.flow_style:
            yield Value(path, None, comment)
            yield from _walk(child, f"{path}.", text)
        else:
            first, last = child.start_mark, child.end_mark
            source = " " * first.column + text[first.index : last.index]
            yield Value(path, json.dumps(yaml.safe_load(source)), comment)


def _comment_above(lines: list[str], row: int) -> str:
    """The block of comment lines that ends right above this row."""
    first = row
    while first > 0 and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return " ".join(line.strip().removeprefix("#").strip() for line in lines[first:row])


def render(root: Path) -> str:
    """The README's text.

    Raises:
        ValueError: a value has no comment.
    """
    found = values((root / CHART / "values.yaml").read_text())
    bare = [value.path for value in found if not value.comment]
    if bare:
        raise ValueError(f"values.yaml: no comment above {', '.join(bare)}")
    rows = [
        (f"`{value.path}`", "" if value.default is None else f"`{value.default}`", value.comment)
        for value in found
    ]
    return _INTRO + "\n" + markdown_table.table(("Value", "Default", "Meaning"), rows)

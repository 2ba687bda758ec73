"""Tells whether a live object is already as we would apply it, without asking the API server.

Every field that we apply is compared with the live one, and ``managedFields`` is searched for
fields that we own and no longer want. What other managers own is left alone.
"""

import json
from collections.abc import Iterator
from typing import Any, cast

from slipway_operator.api.model_deployment import Json
from slipway_operator.api.names import FIELD_MANAGER
from slipway_operator.api.quantity import quantity
from slipway_operator.build.whole import Whole

_QUANTITY_PARENTS = {"requests", "limits"}
_QUANTITY_FIELDS = {"sizeLimit", "averageValue"}

Path = tuple[str, ...]
"""The way to a field; an item of a list keyed by name (mounts: by path) is written ``[name]``."""

_LIST_KEYS = {
    "containers": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "ownerReferences": "uid",
    "ports": "name",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
"""The lists to which others may add items; any other is compared item by item, in order."""

_ITEM_NAMES = set(_LIST_KEYS.values())


_REMOVABLE: dict[str, tuple[Path, ...]] = {
    "Service": (("spec", "ports"),),
    "Ingress": (("metadata", "annotations"), ("spec", "tls")),
    "ScaledObject": (("spec", "pollingInterval"), ("spec", "cooldownPeriod")),
    "PodMonitor": (("metadata", "labels"),),
}
"""Fields that a later spec can remove, and to which the API server adds no defaults."""


def needs_apply(wanted: Json, live: Json) -> bool:
    """Whether applying ``wanted`` would change ``live``, which need not have a kind."""
    return next(differing(wanted, live), None) is not None or _owns_more(wanted, live)


def differing(wanted: Json, live: Json) -> Iterator[Path]:
    """The fields in which ``live`` is not as wanted."""
    for key, value in wanted.items():
        if key not in ("apiVersion", "kind"):
            yield from _differing(value, live.get(key), (key,))


def _differing(wanted: Any, live: Any, path: Path) -> Iterator[Path]:
    if isinstance(wanted, dict):
        fields = cast("Json", wanted)
        if isinstance(live, dict):
            if isinstance(wanted, Whole) and live.keys() - fields.keys():
                yield path
            for key, value in fields.items():
                yield from _differing(value, cast("Json", live).get(key), (*path, key))
        elif fields or live is not None:
            yield path
    elif isinstance(wanted, list):
        items = cast("list[Any]", wanted)
        if isinstance(live, list):
            yield from _differing_items(items, cast("list[Any]", live), path)
        elif items or live is not None:
            yield path
    elif not _same(wanted, live, path):
        yield path


def _same(wanted: Any, live: Any, path: Path) -> bool:
    if path[-1] in _QUANTITY_FIELDS or _QUANTITY_PARENTS.intersection(path[-2:-1]):
        return live is not None and quantity(wanted) == quantity(live)
    # The API server leaves out what is empty or zero.
    return wanted == live or (live is None and wanted in (0, False, ""))


def _differing_items(wanted: list[Any], live: list[Any], path: Path) -> Iterator[Path]:
    key = _LIST_KEYS.get(path[-1])
    if key is not None and _tells_apart(key, wanted):
        by_name = {cast("Json", item).get(key): item for item in live}
        for item in wanted:
            yield from _differing(item, by_name.get(item[key]), (*path, f"[{item[key]}]"))
    elif len(wanted) != len(live) or any(
        next(_differing(one, other, path), None) is not None
        for one, other in zip(wanted, live, strict=True)
    ):
        yield path


def _tells_apart(key: str, items: list[Any]) -> bool:
    names = [cast("Json", item).get(key) for item in items if isinstance(item, dict)]
    return bool(names) and None not in names and len(set(names)) == len(items)


def taken_over(live: Json) -> list[Json] | None:
    """The ``managedFields`` under which what we created is ours to apply; None if it is already.

    The API server keeps what was sent with POST apart from what was applied, under the same name.
    A field of the first kind would outlive its removal from what we apply.
    """
    ours = [
        entry
        for entry in _managed(live)
        if entry.get("manager") == FIELD_MANAGER and not entry.get("subresource")
    ]
    created = [entry for entry in ours if entry.get("operation") == "Update"]
    if not created:
        return None
    fields: Json = {}
    for entry in ours:
        _unite(fields, entry.get("fieldsV1", {}))
    mine: Json = {**created[0], "operation": "Apply", "fieldsV1": fields}
    return [mine, *(entry for entry in _managed(live) if entry not in ours)]


def _unite(fields: Json, more: Json) -> None:
    """Add one set of fields to another."""
    for name, below in more.items():
        _unite(fields.setdefault(name, {}), below)


def _managed(live: Json) -> list[Json]:
    return live["metadata"].get("managedFields") or []


def _owns_more(wanted: Json, live: Json) -> bool:
    """Whether we own a field of ``live`` that is not in ``wanted``."""
    ours = [entry for entry in _managed(live) if entry.get("manager") == FIELD_MANAGER]
    for entry in ours:
        if entry.get("operation") == "Apply":
            return not _within(entry.get("fieldsV1", {}), wanted)
    # Never applied since it was created: what was sent then is ours together with all defaults, so
    # only what no default adds can tell.
    paths = _REMOVABLE.get(wanted.get("kind", ""), ())
    return any(_left_over(entry, path, wanted) for entry in ours for path in paths)


def _left_over(entry: Json, path: Path, wanted: Any) -> bool:
    """Whether the entry has a field at ``path`` or below it that is not wanted."""
    below: Json = entry.get("fieldsV1", {})
    for name in path:
        if f"f:{name}" not in below:
            return False
        below = below[f"f:{name}"]
        wanted = cast("Json", wanted).get(name) if isinstance(wanted, dict) else None
    return wanted is None or not _within(below, wanted)


def _within(owned: Json, wanted: Any) -> bool:
    for key, below in owned.items():
        if key == ".":
            continue
        kind, _, name = key.partition(":")
        if kind == "f":
            if not isinstance(wanted, dict) or name not in wanted:
                return False
            child: Any = cast("Json", wanted)[name]
        elif kind == "k":
            child = _keyed(json.loads(name), wanted)
            if child is None:
                return False
        else:
            continue
        if not _within(below, child):
            return False
    return True


def _keyed(key: Json, wanted: Any) -> Any:
    """The item of an associative list that has these key fields."""
    if not isinstance(wanted, list):
        return None
    for item in cast("list[Any]", wanted):
        if isinstance(item, dict) and all(
            cast("Json", item).get(field, _DEFAULT_KEYS.get(field)) == value
            for field, value in key.items()
        ):
            return cast("Json", item)
    return None


_DEFAULT_KEYS = {"protocol": "TCP"}


def owned_by_others(live: Json, path: Path) -> bool:
    """Whether a field manager other than us owns the field at ``path``."""
    return any(_owns(entry, path) for entry in _others(live))


def owned_by_us(live: Json, path: Path) -> bool:
    """Whether the field at ``path`` still has the value that we gave it."""
    ours = (entry for entry in _managed(live) if entry.get("manager") == FIELD_MANAGER)
    return any(_owns(entry, path) for entry in ours)


def manager_of(live: Json, path: Path) -> str | None:
    """Who else has set the field at ``path``: its owner, or the last one to write the object.

    A field that somebody removed has no owner any more. None when only we ever wrote it.
    """
    others = [entry for entry in _others(live) if entry.get("subresource") != "status"]
    newest_first = sorted(others, key=lambda entry: entry.get("time") or "", reverse=True)
    owners = [entry for entry in newest_first if _owns(entry, path)]
    return next((entry["manager"] for entry in (*owners, *newest_first)), None)


def _others(live: Json) -> list[Json]:
    return [entry for entry in _managed(live) if entry.get("manager") != FIELD_MANAGER]


def _owns(entry: Json, path: Path) -> bool:
    fields: Json = entry.get("fieldsV1", {})
    for name in path:
        below = fields.get(f"f:{name}") if name[:1] != "[" else _item(fields, name[1:-1])
        if below is None:
            return False
        if not below:
            # Owned as a whole, as an atomic map or list is.
            return True
        fields = below
    return True


def _item(fields: Json, name: str) -> Json | None:
    return next(
        (
            below
            for key, below in fields.items()
            if key.startswith("k:")
            and name in (json.loads(key[2:]).get(field) for field in _ITEM_NAMES)
        ),
        None,
    )

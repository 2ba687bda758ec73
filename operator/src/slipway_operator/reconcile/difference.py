"""Tells whether a live object already is as we would apply it, without asking the API server.

Every field that we apply is compared with the live one, and ``managedFields`` is searched for
fields that we own and no longer want. What other managers own is left alone.
"""

import json
from decimal import ROUND_UP, Decimal
from typing import Any, cast

from slipway_operator.api.model_deployment import Json
from slipway_operator.api.names import FIELD_MANAGER

_QUANTITY_PARENTS = {"requests", "limits"}
_QUANTITY_FIELDS = {"sizeLimit"}
_FINEST = Decimal("0.000000001")
_COARSE = Decimal(10**15)
_SUFFIXES = {
    "n": Decimal("0.000000001"),
    "u": Decimal("0.000001"),
    "m": Decimal("0.001"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}


def quantity(value: int | str) -> Decimal:
    """The number that a Kubernetes quantity stands for: 1000m is 1.

    Nothing is finer than a nano: the API server rounds up to it.
    """
    text = str(value)
    number = Decimal(text.rstrip("numkKMGTPEi"))
    suffix = text.lstrip("+-.0123456789")
    number *= _SUFFIXES.get(suffix, Decimal(1))
    return number.quantize(_FINEST, rounding=ROUND_UP) if abs(number) < _COARSE else number


def needs_apply(wanted: Json, live: Json) -> bool:
    """Whether applying ``wanted`` would change ``live``, which need not say its kind."""
    said = {key: value for key, value in wanted.items() if key not in ("apiVersion", "kind")}
    return not _covers(said, live, ()) or _owns_more(wanted, live)


def _covers(wanted: Any, live: Any, path: tuple[str, ...]) -> bool:
    """Whether ``live`` has everything that ``wanted`` says."""
    if isinstance(wanted, dict):
        fields = cast("Json", wanted)
        if not isinstance(live, dict):
            return not fields and live is None
        return all(
            _covers(value, cast("Json", live).get(key), (*path, key))
            for key, value in fields.items()
        )
    if isinstance(wanted, list):
        items = cast("list[Any]", wanted)
        if not isinstance(live, list):
            return not items and live is None
        return _covers_list(items, cast("list[Any]", live), path)
    if path and (path[-1] in _QUANTITY_FIELDS or _QUANTITY_PARENTS.intersection(path[-2:-1])):
        return live is not None and quantity(wanted) == quantity(live)
    if wanted == live:
        return True
    # The API server leaves out what is empty or zero.
    return live is None and wanted in (0, False, "")


def _covers_list(wanted: list[Any], live: list[Any], path: tuple[str, ...]) -> bool:
    if wanted and all(isinstance(item, dict) and "name" in item for item in wanted):
        # A list keyed by name: others may add items, so those of ours are looked up.
        by_name = {cast("Json", item).get("name"): item for item in live}
        return all(_covers(item, by_name.get(item["name"]), path) for item in wanted)
    return len(wanted) == len(live) and all(
        _covers(one, other, path) for one, other in zip(wanted, live, strict=True)
    )


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
    for entry in _managed(live):
        if entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply":
            return not _within(entry.get("fieldsV1", {}), wanted)
    return False


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


def owned_by_others(live: Json, path: tuple[str, ...]) -> bool:
    """Whether a field manager other than us owns the field at ``path``."""
    for entry in _managed(live):
        if entry.get("manager") == FIELD_MANAGER:
            continue
        fields: Json | None = entry.get("fieldsV1", {})
        for name in path:
            fields = fields.get(f"f:{name}") if fields is not None else None
        if fields is not None:
            return True
    return False

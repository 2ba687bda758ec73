"""The API server: resourceVersions, uids, preconditions, server-side apply of one manager."""

from __future__ import annotations

import copy
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from slipway_operator.api.names import FIELD_MANAGER
from slipway_operator.reconcile.kinds import DEPLOYMENT, Kind
from slipway_operator.reconcile.kube import ApiError

Json = dict[str, Any]
Address = tuple[str, str, str]


@dataclass(frozen=True)
class Write:
    """One request that changes something, counted from 0."""

    index: int
    verb: str
    kind: str
    name: str


class FakeApi:
    """Has the methods of ``KubeClient`` that the operator's decisions need.

    ``before`` and ``after`` see each write and may raise: before it, as a server that refuses; or
    after it, as a connection that is lost when the server has done its work.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._numbers = itertools.count(1)
        self.changes = 0
        self.event_reads = 0
        self.log_reads = 0
        self.fetch_log: str | None = ""
        self.objects: dict[Address, Json] = {}
        self.deleted: list[tuple[Kind, Json]] = []
        self.kinds: dict[str, Kind] = {}
        self.writes: list[Write] = []
        self.before: Callable[[Write], None] = lambda _: None
        self.after: Callable[[Write], None] = lambda _: None

    # What KubeClient has.

    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        return copy.deepcopy(self.objects.get((kind.name, namespace, name)))

    async def pages(
        self, kind: Kind, namespace: str | None, label_selector: str | None
    ) -> AsyncIterator[tuple[list[Json], str]]:
        found = [
            copy.deepcopy(obj)
            for (name, space, _), obj in self.objects.items()
            if name == kind.name and namespace in (None, space)
        ]
        yield found, str(next(self._numbers))

    async def events_about(self, namespace: str, uid: str) -> Sequence[Json]:
        self.event_reads += 1
        return [
            copy.deepcopy(obj)
            for (name, space, _), obj in self.objects.items()
            if (name, space) == ("Event", namespace) and obj["involvedObject"].get("uid") == uid
        ]

    async def log_tail(self, namespace: str, pod: str, container: str) -> str:
        self.log_reads += 1
        if self.fetch_log is None:
            raise ApiError(403, "Forbidden", "pods/log is forbidden")
        return self.fetch_log

    async def create(self, kind: Kind, obj: Json) -> Json:
        write = self._begin("create", kind, obj["metadata"]["name"])
        if self._address(kind, obj) in self.objects:
            raise ApiError(409, "AlreadyExists", f"{obj['metadata']['name']} already exists")
        new = self.add(kind, obj)
        new["metadata"]["managedFields"] = [_entry("Update", obj)]
        return self._end(write, new)

    async def apply(self, kind: Kind, obj: Json, uid: str, subresource: str = "") -> Json:
        write = self._begin("apply" + subresource, kind, obj["metadata"]["name"])
        live = self.objects.get(self._address(kind, obj))
        if live is None:
            raise ApiError(409, "Conflict", "the object does not exist, but a uid was given")
        if live["metadata"]["uid"] != uid:
            raise ApiError(422, "Invalid", "metadata.uid: field is immutable")
        self._check_version(live, obj["metadata"].get("resourceVersion"))
        if subresource:
            changed = {**live, "status": copy.deepcopy(obj["status"])}
        else:
            changed = _server_side_apply(kind, live, obj)
        return self._end(write, self._store(kind, live, changed))

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Json) -> Json:
        write = self._begin("merge", kind, name)
        live = self.objects.get((kind.name, namespace, name))
        if live is None:
            raise ApiError(404, "NotFound", f"{name} not found")
        patch = copy.deepcopy(patch)
        self._check_version(live, patch["metadata"].pop("resourceVersion", None))
        return self._end(write, self._store(kind, live, _merged(live, patch)))

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str | None) -> Json | None:
        """What a finalizer leaves of it; None when it is gone."""
        write = self._begin("delete", kind, name)
        live = self.objects.get((kind.name, namespace, name))
        left: Json | None = None
        if live is not None and uid in (None, live["metadata"]["uid"]):
            if live["metadata"].get("finalizers"):
                marked = {"deletionTimestamp": self.now(), **live["metadata"]}
                left = self._store(kind, live, {**live, "metadata": marked})
            else:
                self.remove(kind, live)
        self.after(write)
        return copy.deepcopy(left)

    # What the rest of the cluster does.

    def add(self, kind: Kind, obj: Json) -> Json:
        """Put a new object in as the API server would."""
        new = copy.deepcopy(obj)
        number = next(self._numbers)
        new["metadata"] |= {
            "uid": f"uid-{number}",
            "resourceVersion": str(number),
            "generation": 1,
            "creationTimestamp": self.now(),
        }
        if kind is DEPLOYMENT:
            new["spec"].setdefault("replicas", 1)
        self.changes += 1
        self.kinds[kind.name] = kind
        self.objects[self._address(kind, new)] = new
        return new

    def update(self, kind: Kind, name: str, namespace: str, change: Callable[[Json], None]) -> None:
        """Let somebody else change an object."""
        live = self.objects[kind.name, namespace, name]
        changed = copy.deepcopy(live)
        change(changed)
        stored = self._store(kind, live, changed)
        was_held = "deletionTimestamp" in live["metadata"] and live["metadata"].get("finalizers")
        if was_held and not stored["metadata"].get("finalizers"):
            self.remove(kind, stored)

    def remove(self, kind: Kind, obj: Json) -> None:
        """Delete an object and what it owns."""
        self.changes += 1
        gone = self.objects.pop(self._address(kind, obj))
        self.deleted.append((kind, gone))
        uid = gone["metadata"]["uid"]
        for (name, _, _), other in list(self.objects.items()):
            if any(r["uid"] == uid for r in other["metadata"].get("ownerReferences", ())):
                self.remove(self.kinds[name], other)

    def of_kind(self, kind: Kind) -> list[Json]:
        return [obj for (name, _, _), obj in self.objects.items() if name == kind.name]

    def now(self) -> str:
        return self._clock().strftime("%Y-%m-%dT%H:%M:%SZ")

    def _begin(self, verb: str, kind: Kind, name: str) -> Write:
        write = Write(len(self.writes), verb, kind.name, name)
        self.before(write)
        self.writes.append(write)
        return write

    def _end(self, write: Write, obj: Json) -> Json:
        self.after(write)
        return copy.deepcopy(obj)

    @staticmethod
    def _address(kind: Kind, obj: Json) -> Address:
        return (kind.name, obj["metadata"]["namespace"], obj["metadata"]["name"])

    @staticmethod
    def _check_version(live: Json, version: str | None) -> None:
        if version not in (None, live["metadata"]["resourceVersion"]):
            raise ApiError(409, "Conflict", "the object has been modified")

    def _store(self, kind: Kind, live: Json, changed: Json) -> Json:
        if changed == live:
            return live
        self.changes += 1
        metadata = changed["metadata"] = {**changed["metadata"]}
        if changed.get("spec") != live.get("spec"):
            metadata["generation"] = live["metadata"]["generation"] + 1
        metadata["resourceVersion"] = str(next(self._numbers))
        self.objects[self._address(kind, changed)] = changed
        return changed


def _merged(live: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    out = dict(live) if isinstance(live, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = _merged(out.get(key), value)
    return out


def _named(items: Any) -> bool:
    return isinstance(items, list) and all(isinstance(i, dict) and "name" in i for i in items)


def _fields(obj: Any) -> Json:
    """fieldsV1 of what was sent; lists of named items are keyed by name."""
    if isinstance(obj, dict):
        return {f"f:{key}": _fields(value) for key, value in obj.items()}
    if obj and _named(obj):
        return {f'k:{{"name":"{item["name"]}"}}': {".": {}, **_fields(item)} for item in obj}
    return {}


def _entry(operation: str, obj: Json) -> Json:
    """The managedFields entry of the operator."""
    sent = {key: obj[key] for key in ("spec",) if key in obj}
    labels = {"metadata": {"labels": obj["metadata"].get("labels", {})}}
    return {
        "manager": FIELD_MANAGER,
        "operation": operation,
        "fieldsV1": _fields({**sent, **labels}),
    }


def _server_side_apply(kind: Kind, live: Json, sent: Json) -> Json:
    applied = _entry("Apply", sent)
    others = []
    before: Json = {}
    for entry in live["metadata"].get("managedFields", []):
        if (entry["manager"], entry["operation"]) == (FIELD_MANAGER, "Apply"):
            before = entry["fieldsV1"]
        else:
            others.append(entry)
    out = copy.deepcopy(live)
    _drop(out, before, applied["fieldsV1"], [entry["fieldsV1"] for entry in others])
    _overlay(out, {key: value for key, value in sent.items() if key != "metadata"})
    out["metadata"]["labels"] = {
        **out["metadata"].get("labels", {}),
        **sent["metadata"].get("labels", {}),
    }
    out["metadata"]["managedFields"] = [applied, *others]
    if kind is DEPLOYMENT:
        out["spec"].setdefault("replicas", 1)
    return out


def _drop(obj: Any, before: Json, now: Json, others: list[Json]) -> None:
    """Remove what only this manager had and no longer sends."""
    for key, below in before.items():
        elsewhere = [fields[key] for fields in others if key in fields]
        name = key.partition(":")[2]
        if key not in now and not elsewhere:
            if key.startswith("f:"):
                obj.pop(name, None)
            elif key.startswith("k:"):
                wanted = name.split('"')[3]
                obj[:] = [item for item in obj if item["name"] != wanted]
        elif key.startswith("f:") and name in obj:
            _drop(obj[name], below, now.get(key, {}), elsewhere)
        elif key.startswith("k:"):
            for item in obj:
                if item["name"] == name.split('"')[3]:
                    _drop(item, below, now.get(key, {}), elsewhere)


def _overlay(live: Any, sent: Json) -> None:
    for key, value in sent.items():
        if isinstance(value, dict) and isinstance(live.get(key), dict):
            _overlay(live[key], value)
        elif value and _named(value) and _named(live.get(key)):
            by_name = {item["name"]: item for item in live[key]}
            for item in value:
                if item["name"] in by_name:
                    _overlay(by_name[item["name"]], item)
                else:
                    live[key].append(copy.deepcopy(item))
        else:
            live[key] = copy.deepcopy(value)

"""What is known of the cluster: fed by watches, by lists, and by the answers to our own writes.

An object replaces another only when its resourceVersion is higher, so a write is seen by the very
next decision and a late watch event cannot undo it. Deleted uids are remembered for a while for
the same reason. Objects are trimmed to what decisions read, and kept as compressed JSON: as
dictionaries they would take some thirty times the memory, all of it walked by the garbage collector
again and again, and unpacking takes little longer than parsing does.
"""

import json
import zlib
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Container
from dataclasses import dataclass

import orjson

from slipway_operator.api.model_deployment import Json
from slipway_operator.api.names import KIND, LABEL_MODEL
from slipway_operator.reconcile import kinds
from slipway_operator.reconcile.kinds import Kind

Key = tuple[str, str]

_TOMBSTONES = 4096
_FASTEST = 1
_LATER_THAN_ALL = 2**63
_POD_STATUS = ("phase", "reason", "message", "initContainerStatuses", "containerStatuses")
_POD_CONDITIONS = {"PodScheduled", "PodReadyToStartContainers", "Ready"}
_CONTAINER = ("name", "startupProbe", "livenessProbe")
_METADATA = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "labels",
    "annotations",
    "ownerReferences",
    "creationTimestamp",
    "deletionTimestamp",
    "finalizers",
    "managedFields",
)


def _version(obj: Json) -> int:
    """Kubernetes 1.35 declares resourceVersions to be comparable decimal numbers."""
    return int(obj["metadata"].get("resourceVersion") or 0)


def _trim(kind: Kind, obj: Json) -> Json:
    source: Json = obj["metadata"]
    metadata = {field: source[field] for field in _METADATA if field in source}
    if kind not in kinds.CHILDREN:
        metadata.pop("managedFields", None)
    if kind is kinds.POD:
        metadata.pop("annotations", None)
        status: Json = obj.get("status", {})
        short = {field: status[field] for field in _POD_STATUS if field in status}
        short["conditions"] = [
            c for c in status.get("conditions", ()) if c["type"] in _POD_CONDITIONS
        ]
        spec: Json = obj.get("spec", {})
        kept: Json = {"nodeName": spec.get("nodeName", "")}
        for field in ("initContainers", "containers"):
            if field in spec:
                kept[field] = [{k: c[k] for k in _CONTAINER if k in c} for c in spec[field]]
        return {"metadata": metadata, "spec": kept, "status": short}
    if kind is kinds.REPLICA_SET:
        metadata.pop("annotations", None)
        return {"metadata": metadata, "status": obj.get("status", {})}
    rest = {field: obj[field] for field in ("spec", "status", "data", "revision") if field in obj}
    return {"metadata": metadata, **rest}


def key_of(kind: Kind, obj: Json) -> Key | None:
    """The ModelDeployment that an object is about."""
    metadata: Json = obj["metadata"]
    if kind is kinds.MODEL_DEPLOYMENT:
        return (metadata["namespace"], metadata["name"])
    # An owner first: labels may have been edited by hand.
    owners = (r["name"] for r in metadata.get("ownerReferences") or () if r["kind"] == KIND)
    labels: dict[str, str] = metadata.get("labels") or {}
    name = next(owners, labels.get(LABEL_MODEL))
    return (metadata["namespace"], name) if name else None


def _json(obj: Json) -> bytes:
    try:
        return orjson.dumps(obj)
    except TypeError:
        # An integer of more than 64 bits, as kopf reads them; read again it is a float.
        return json.dumps(obj).encode()


@dataclass(frozen=True, slots=True)
class _Known:
    """One object: its uid and version to compare by, and the rest packed."""

    uid: str
    version: int
    packed: bytes

    @classmethod
    def of(cls, kind: Kind, obj: Json) -> "_Known":
        # Compressed rather than orjson's own bytes, which keep their whole output buffer alive.
        packed = zlib.compress(_json(_trim(kind, obj)), _FASTEST)
        return cls(obj["metadata"]["uid"], _version(obj), packed)

    def unpacked(self) -> Json:
        return orjson.loads(zlib.decompress(self.packed))


class Store:
    """Objects by the ModelDeployment they belong to.

    What it returns belongs to the caller: changing it changes nothing in the store.
    """

    def __init__(self, serves: Callable[[Json], bool] = lambda _model: True) -> None:
        """``serves`` says whether a ModelDeployment is this operator's to serve."""
        self._serves = serves
        self._objects: dict[Key, dict[Kind, dict[str, _Known]]] = defaultdict(
            lambda: defaultdict(dict)
        )
        self._keys: dict[str, Key] = {}
        self._tombstones: OrderedDict[str, None] = OrderedDict()

    def _key_if_mine(self, kind: Kind, obj: Json) -> Key | None:
        # Nothing is kept of one that another operator serves; a change of labels brings it back.
        mine = kind is not kinds.MODEL_DEPLOYMENT or self._serves(obj)
        return key_of(kind, obj) if mine else None

    def lacks(self, kind: Kind, obj: Json) -> bool:
        """Whether an object, of which only the metadata is looked at, would be news."""
        metadata: Json = obj["metadata"]
        if metadata["uid"] in self._tombstones:
            return False
        place = self._keys.get(metadata["uid"]) or self._key_if_mine(kind, obj)
        if place is None:
            return False
        known = self._known(place, kind).get(metadata["name"])
        return known is None or known.version < _version(obj)

    def put(self, kind: Kind, obj: Json) -> Key | None:
        """Take in an object; the key it concerns, or None when it is nothing new."""
        if not self.lacks(kind, obj):
            return None
        uid: str = obj["metadata"]["uid"]
        name: str = obj["metadata"]["name"]
        key, before = self._key_if_mine(kind, obj), self._keys.get(uid)
        if before is not None and before != key:
            # A pod whose labels were edited to take it out of service, say.
            self._forget(kind, before, name, uid)
        if key is None:
            return before
        if (known := self._known(key, kind).get(name)) is not None:
            self._keys.pop(known.uid, None)
        self._keys[uid] = key
        self._objects[key][kind][name] = _Known.of(kind, obj)
        return key

    def confirm(self, kind: Kind, obj: Json) -> None:
        """Take in an object that was just read: it exists, whatever a watch has reported.

        A watch reports an object that no longer has our labels as deleted.
        """
        self._tombstones.pop(obj["metadata"]["uid"], None)
        self.put(kind, obj)

    def remove(self, kind: Kind, obj: Json) -> Key | None:
        """Forget an object that was deleted, and never take this uid in again."""
        metadata: Json = obj["metadata"]
        key = self._keys.get(metadata["uid"]) or key_of(kind, obj)
        self._bury(metadata["uid"])
        if key is not None:
            self._forget(kind, key, metadata["name"], metadata["uid"])
        return key

    def _bury(self, uid: str) -> None:
        self._tombstones[uid] = None
        while len(self._tombstones) > _TOMBSTONES:
            self._tombstones.popitem(last=False)

    def _forget(self, kind: Kind, key: Key, name: str, uid: str) -> None:
        self._keys.pop(uid, None)
        if key not in self._objects:
            return
        known = self._objects[key][kind].get(name)
        if known is not None and known.uid == uid:
            del self._objects[key][kind][name]
        if not any(self._objects[key].values()):
            del self._objects[key]

    def drop_absent(
        self, kind: Kind, namespace: str | None, present: Container[str], version: str
    ) -> set[Key]:
        """Forget what a whole list lacked and is not newer than the list; the keys it concerned.

        Args:
            present: the uids in the list.
            version: the resourceVersion of the list.
        """
        gone = [
            (key, name, known.uid)
            for key, by_kind in self._objects.items()
            if namespace in (None, key[0])
            for name, known in by_kind.get(kind, {}).items()
            if known.uid not in present and known.version <= int(version)
        ]
        for key, name, uid in gone:
            self._bury(uid)
            self._forget(kind, key, name, uid)
        return {key for key, _, _ in gone}

    def forget(self, kind: Kind) -> set[Key]:
        """A kind is gone from the cluster, and with it all its objects."""
        return self.drop_absent(kind, None, (), str(_LATER_THAN_ALL))

    def _known(self, key: Key, kind: Kind) -> dict[str, _Known]:
        return self._objects.get(key, {}).get(kind, {})

    def get(self, key: Key, kind: Kind) -> dict[str, Json]:
        """Objects of one kind by name."""
        return {name: known.unpacked() for name, known in self._known(key, kind).items()}

    def model(self, key: Key) -> Json | None:
        """The ModelDeployment itself."""
        known = self._known(key, kinds.MODEL_DEPLOYMENT).get(key[1])
        return None if known is None else known.unpacked()

    def models(self) -> list[Key]:
        """All keys that have a ModelDeployment."""
        return [key for key in self._objects if self._known(key, kinds.MODEL_DEPLOYMENT)]

"""The cache volume: the artifact, and beside it the engines that a provider compiles from it.

``fetch`` writes all of it. ``serve`` reads it, and may write its engines alone, which lie in a
folder of the volume that is mounted once more at a path of its own.
"""

from slipway_operator.api.model_deployment import Json
from slipway_operator.api.quantity import quantity
from slipway_operator.build.resolve import ResolvedServing

CACHE_DIR = "/var/cache/slipway"
ENGINES_DIR = "/var/cache/slipway-engines"
COMPILERS = ("TensorrtExecutionProvider", "OpenVINOExecutionProvider")
"""Providers whose engines the runtime keeps."""
_VOLUME = "cache"
_ENGINES_FOLDER = "engines"
_OVERHEAD = 1 << 20  # directories and the like, in bytes


def keeps_engines(serving: ResolvedServing) -> bool:
    """Whether a provider may compile, so that there is something to keep."""
    used = (*serving.preferred_providers, *serving.providers)
    return any(name in COMPILERS for name in used)


def cache_volume(serving: ResolvedServing) -> Json:
    """The pod's volume; engines get as much room as the artifact, whose size they are about."""
    limit = serving.cache_size
    if keeps_engines(serving):
        limit = 2 * int(quantity(limit))
    return {"name": _VOLUME, "emptyDir": {"sizeLimit": limit}}


def largest_artifact(serving: ResolvedServing) -> int:
    """How many bytes ``fetch`` may bring."""
    return max(1, int(quantity(serving.cache_size)) - _OVERHEAD)


def fetch_mount() -> Json:
    """Where ``fetch`` writes."""
    return {"name": _VOLUME, "mountPath": CACHE_DIR}


def serve_mounts(serving: ResolvedServing) -> list[Json]:
    """Where ``serve`` reads, and keeps its engines."""
    mounts: list[Json] = [{"name": _VOLUME, "mountPath": CACHE_DIR, "readOnly": True}]
    if keeps_engines(serving):
        # The kubelet makes the folder, with the mode and the group of the volume.
        mounts.append({"name": _VOLUME, "mountPath": ENGINES_DIR, "subPath": _ENGINES_FOLDER})
    return mounts

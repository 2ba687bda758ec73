"""``pvc://CLAIM/PATH``: the PersistentVolumeClaim that an artifact lies on.

It is mounted read-only, and into ``fetch`` alone: what is served lies in the pod's own cache, where
nobody changes it after it was verified.
"""

from slipway_operator.api.model_deployment import Json

CLAIM_DIR = "/var/lib/slipway/claim"
_SCHEME = "pvc://"
_VOLUME = "claim"


def claim_volume(uri: str) -> Json | None:
    """The pod's volume for the claim of an artifact, None where it lies elsewhere."""
    if not uri.startswith(_SCHEME):
        return None
    claim = uri.removeprefix(_SCHEME).partition("/")[0]
    return {"name": _VOLUME, "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}


def claim_mount() -> Json:
    """Where ``fetch`` finds it."""
    return {"name": _VOLUME, "mountPath": CLAIM_DIR, "readOnly": True}

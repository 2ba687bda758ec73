"""Names that users and other programs rely on: the API group, labels and annotations."""

GROUP = "slipway.dev"
VERSION = "v1alpha1"
KIND = "ModelDeployment"
PLURAL = "modeldeployments"
SINGULAR = "modeldeployment"
SHORT_NAME = "mdep"
API_VERSION = f"{GROUP}/{VERSION}"

FIELD_MANAGER = "slipway-operator"

LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGED_BY = "slipway-operator"
LABEL_MODEL = f"{GROUP}/model"
LABEL_REVISION = f"{GROUP}/revision"
LABEL_DIGEST = f"{GROUP}/digest"
LABEL_POOL = f"{GROUP}/pool"

ANNOTATION_DIGEST = f"{GROUP}/digest"
ANNOTATION_URI = f"{GROUP}/uri"

# On the ModelDeployment, set by users: a new value retries a failed revision.
ANNOTATION_RETRY = f"{GROUP}/retry"

# On the ModelDeployment, set by users: the number of a revision to serve instead of what the spec
# asks for. On the ControllerRevision of what the spec asks for: the one that is served instead.
ANNOTATION_ROLLBACK_TO = f"{GROUP}/rollback-to"

# On the ControllerRevision: the request that was there when the spec changed, and so has ended.
ANNOTATION_ROLLBACK_ENDED = f"{GROUP}/rollback-ended"

# On the ControllerRevision: what the operator found out about it.
ANNOTATION_OUTCOME = f"{GROUP}/outcome"
ANNOTATION_OUTCOME_TIME = f"{GROUP}/outcome-time"
ANNOTATION_GOOD_AS = f"{GROUP}/good-as"
ANNOTATION_EVIDENCE = f"{GROUP}/evidence"
ANNOTATION_RETRY_SEEN = f"{GROUP}/retry-seen"

DIGEST_LABEL_DIGITS = 12
"""Hex digits of the digest in labels and in the version that the runtime answers with."""


def short_digest(digest: str) -> str:
    """The first 12 hex digits of ``sha256:<hex>``."""
    return digest.removeprefix("sha256:")[:DIGEST_LABEL_DIGITS]


def shown_uri(uri: str) -> str:
    """An artifact's address as it may be shown: the query of a presigned one is a credential."""
    return uri.partition("?")[0] if uri.startswith(("http://", "https://")) else uri

"""Revisions: the unit of rollout and rollback, kept in owned ControllerRevisions.

The data of a ControllerRevision is immutable: the rendered pod template and what it serves. What
became of it is written to its annotations.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from types import UnionType
from typing import Any, cast

from slipway_operator.api import names
from slipway_operator.api.model_deployment import Json, ModelDeployment
from slipway_operator.api.settings import Pool
from slipway_operator.api.spec import ModelDeploymentSpec
from slipway_operator.api.status import Outcome
from slipway_operator.build.labels import selector
from slipway_operator.build.pod import pod_template

_HASH_DIGITS = 10
ANNOTATION_SPEC_HASH = f"{names.GROUP}/spec-hash"


def _digest_of(data: Any) -> str:
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:_HASH_DIGITS]


def spec_hash(spec: ModelDeploymentSpec) -> str:
    """Identifies what the user asked of the pods; never replicas, autoscaling or rollout."""
    # Without defaults, so that a field which a later version adds changes nothing.
    reaching = spec.model_dump(
        mode="json",
        by_alias=True,
        exclude_defaults=True,
        include={"model", "pool", "golden", "runtime", "template"},
    )
    return _digest_of(reaching)


@dataclass(frozen=True)
class Rendered:
    """What the spec, the pool and this operator's builder make now."""

    hash: str
    spec_hash: str
    template: Json
    digest: str
    uri: str


def render(model: ModelDeployment, pool: Pool) -> Rendered:
    """Render the pod template and identify it by its content.

    The template in the result carries the revision's label, which its hash leaves out.
    """
    template = pod_template(model.name, model.spec, pool)
    content = _digest_of(template)
    template["metadata"]["labels"][names.LABEL_REVISION] = content
    return Rendered(
        hash=content,
        spec_hash=spec_hash(model.spec),
        template=template,
        digest=model.spec.model.digest,
        uri=names.shown_uri(model.spec.model.uri),
    )


@dataclass(frozen=True)
class Revision:
    """One ControllerRevision, read back.

    Attributes:
        number: rises whenever the revision becomes the target again.
        hash: the value of the pods' revision label.
        good_as: the number under which a rollout of it was completed, if ever.
        outcome_time: when ``outcome`` was written (RFC 3339), if it was.
        evidence: the failure that was judged, as ``LastFailure`` has it.
        rollback_to: the number of the revision that a person wants instead of this one.
        rollback_ended: such a request that was over when this revision was asked for.
        retry_seen: the retry token in force when the outcome was written.
        created: when the object was created (RFC 3339); None when it is yet to be.
        labelled: whether it has the label that watches and lists go by.
    """

    object_name: str
    number: int
    hash: str
    spec_hash: str
    template: Json
    digest: str
    uri: str
    outcome: Outcome
    outcome_time: str | None
    good_as: int | None
    evidence: Json | None
    retry_seen: str | None
    resource_version: str
    uid: str | None
    created: str | None
    rollback_to: str | None = None
    rollback_ended: str | None = None
    labelled: bool = True

    @classmethod
    def parse(cls, obj: Json) -> "Revision":
        """Read a ControllerRevision that ``controller_revision`` built.

        Its data is immutable; its annotations may have been edited by anyone, and then say nothing.
        """
        metadata: Json = obj["metadata"]
        annotations: dict[str, str] = metadata.get("annotations") or {}
        labels: dict[str, str] = metadata.get("labels") or {}
        data: Json = obj.get("data") or {}
        template: Json = data["template"]
        good_as = annotations.get(names.ANNOTATION_GOOD_AS, "")
        return cls(
            object_name=metadata["name"],
            number=obj.get("revision", 0),
            hash=template["metadata"]["labels"][names.LABEL_REVISION],
            spec_hash=annotations.get(ANNOTATION_SPEC_HASH, ""),
            template=template,
            digest=data["digest"],
            uri=data["uri"],
            outcome=_OUTCOMES.get(annotations.get(names.ANNOTATION_OUTCOME, ""), Outcome.PENDING),
            outcome_time=_time(annotations.get(names.ANNOTATION_OUTCOME_TIME)),
            good_as=int(good_as) if good_as.isdecimal() else None,
            evidence=_evidence(annotations.get(names.ANNOTATION_EVIDENCE)),
            retry_seen=annotations.get(names.ANNOTATION_RETRY_SEEN) or None,
            resource_version=metadata.get("resourceVersion", ""),
            uid=metadata.get("uid"),
            created=metadata.get("creationTimestamp"),
            rollback_to=annotations.get(names.ANNOTATION_ROLLBACK_TO) or None,
            rollback_ended=annotations.get(names.ANNOTATION_ROLLBACK_ENDED) or None,
            labelled=labels.get(names.LABEL_MANAGED_BY) == names.MANAGED_BY,
        )


_OUTCOMES = {outcome.value: outcome for outcome in Outcome}
_EVIDENCE: dict[str, type | UnionType] = {
    "reason": str,
    "message": str,
    "class": str | None,
    "pod": str | None,
    "container": str | None,
    "exitCode": int | None,
    "action": str | None,
}


def _evidence(annotation: str | None) -> Json | None:
    """The recorded failure; None when there is none, or a manual edit made it invalid."""
    try:
        recorded = json.loads(annotation or "null")
    except ValueError:
        return None
    if not isinstance(recorded, dict):
        return None
    fields = cast("Json", recorded)
    sound = all(isinstance(fields.get(name), kind) for name, kind in _EVIDENCE.items())
    # The API server refuses conditions whose reason is not an identifier.
    return fields if sound and str(fields["reason"]).isidentifier() else None


def _time(annotation: str | None) -> str | None:
    """A time with its zone; None when there is none, or a manual edit made it invalid."""
    try:
        zone = datetime.fromisoformat(annotation or "").tzinfo
    except ValueError:
        return None
    return annotation if zone is not None else None


def revision_labels(model_name: str, revision_hash: str) -> dict[str, str]:
    """The labels of a ControllerRevision."""
    return {**selector(model_name), names.LABEL_REVISION: revision_hash}


def controller_revision(model: ModelDeployment, rendered: Rendered, number: int) -> Json:
    """The ControllerRevision of a revision that is asked for the first time."""
    annotations = {
        ANNOTATION_SPEC_HASH: rendered.spec_hash,
        names.ANNOTATION_DIGEST: rendered.digest,
    }
    if retry := model.annotations.get(names.ANNOTATION_RETRY):
        annotations[names.ANNOTATION_RETRY_SEEN] = retry
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": f"{model.name}-{rendered.hash}",
            "namespace": model.namespace,
            "labels": revision_labels(model.name, rendered.hash),
            "annotations": annotations,
            "ownerReferences": [model.owner_reference()],
        },
        "revision": number,
        "data": {
            "template": rendered.template,
            "digest": rendered.digest,
            "uri": rendered.uri,
        },
    }

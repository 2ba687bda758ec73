"""A complete ModelDeployment. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from slipway.errors import InvalidArguments
from slipway.gitops.resources import Proposal

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,48}[a-z0-9])?")
_URI = re.compile(r"(s3://[^/]+/.+|https?://[^/]+/.*|pvc://[^/]+/.+|file:///.+)")


@dataclass(frozen=True)
class Wanted:
    """What the resource is to say; None stays unsaid, so that the pool's value counts."""

    name: str
    uri: str
    digest: str
    namespace: str | None = None
    pool: str | None = None
    replicas: int | None = None
    secret: str | None = None
    endpoint: str | None = None
    region: str | None = None
    addressing_style: str | None = None
    service_account: str | None = None
    proposal: Proposal | None = None


def build(wanted: Wanted) -> dict[str, Any]:
    """Return the resource, its fields in the order that people write them in.

    Raises:
        InvalidArguments: the name or the URI would be refused by the cluster.
    """
    if not _NAME.fullmatch(wanted.name):
        raise InvalidArguments(
            f"{wanted.name!r} is no name for a ModelDeployment",
            "--name: at most 50 lower-case letters, digits and '-', beginning with a letter",
        )
    if not _URI.fullmatch(wanted.uri):
        raise InvalidArguments(
            f"{wanted.uri!r} is no place that pods fetch from",
            "s3://, https://, pvc:// or file:///",
        )
    model: dict[str, Any] = {"uri": wanted.uri, "digest": wanted.digest}
    storage = _said(
        secretName=wanted.secret,
        endpoint=wanted.endpoint,
        region=wanted.region,
        addressingStyle=wanted.addressing_style,
    )
    if storage and wanted.uri.startswith("s3://"):
        model["storage"] = storage
    spec = {"model": model} | _said(pool=wanted.pool, replicas=wanted.replicas)
    if wanted.proposal is not None:
        spec["runtime"] = {
            "resources": {
                "requests": {"memory": wanted.proposal.request},
                "limits": {"memory": wanted.proposal.limit},
            }
        } | _said(cacheSize=wanted.proposal.cache)
    if wanted.service_account:
        spec["template"] = {"serviceAccountName": wanted.service_account}
    return {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": wanted.name} | _said(namespace=wanted.namespace),
        "spec": spec,
    }


def _said(**values: object) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}

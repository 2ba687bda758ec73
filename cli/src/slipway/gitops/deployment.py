"""A complete ModelDeployment. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from slipway.errors import InvalidArguments
from slipway.gitops.resources import Proposal

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,48}[a-z0-9])?")
_URI = re.compile(
    r"(s3://[^/]+/.+|https?://[^/]+/.*|pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/.+|file:///.+)"
)
_OUT_OF_THE_CLAIM = re.compile(r"pvc://.*/\.\.(/|$)")
_WITH_PASSWORD = re.compile(r"https?://[^/]*@")


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
        InvalidArguments: the name, the URI or the way to its storage would be refused by the
            cluster, or be of no use.
    """
    if not _NAME.fullmatch(wanted.name):
        raise InvalidArguments(
            f"{wanted.name!r} is no name for a ModelDeployment",
            "--name: at most 50 lower-case letters, digits and '-', beginning with a letter",
        )
    check_uri(wanted.uri)
    _check_storage(wanted)
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


def check_uri(uri: str) -> None:
    """Check that pods could fetch from an URI.

    Raises:
        InvalidArguments: the cluster would refuse it.
    """
    if _WITH_PASSWORD.match(uri):
        raise InvalidArguments(
            "--uri holds a user name or a password, and is seen in status and logs",
            "use a presigned URL, or s3:// with --secret",
        )
    if not _URI.fullmatch(uri):
        raise InvalidArguments(
            f"{uri!r} is no place that pods fetch from",
            "s3://bucket/key, https://host/path, pvc://claim/path or file:///path",
        )
    if _OUT_OF_THE_CLAIM.match(uri):
        raise InvalidArguments(
            f"{uri!r} leads out of the claim", "write the path from its root, without .."
        )


def _check_storage(wanted: Wanted) -> None:
    if wanted.endpoint and not re.match("https?://.", wanted.endpoint):
        raise InvalidArguments(
            f"{wanted.endpoint!r} is no URL of a server", "such as https://s3.example.com"
        )
    if wanted.endpoint and _WITH_PASSWORD.match(wanted.endpoint):
        raise InvalidArguments(
            "--endpoint holds a user name or a password, and is seen in status and logs",
            "put them into the Secret that --secret names",
        )
    if wanted.secret and not wanted.uri.startswith("s3://"):
        raise InvalidArguments(
            f"--secret holds the keys of an object storage, and {wanted.uri!r} is none",
            "leave it out, or give the artifact's s3:// uri",
        )


def _said(**values: object) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}

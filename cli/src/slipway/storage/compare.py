"""Whether an object that is there already holds certain bytes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

import botocore.exceptions as aws

from slipway.errors import AccessDenied, Conflict
from slipway.storage.client import Client, Location, code_of, status_of, translated

DIGEST_KEY = "slipway-digest"
"""The key of the digest in an object's metadata."""

_FORBIDDEN = 403
_MISSING = 404
_BLOCK_BYTES = 1024 * 1024


def present(client: Client, location: Location, size: int, digest: str) -> bool:
    """Return whether the object is there with this content; ``size`` in bytes.

    Asks for headers first; the object is read only where they are not conclusive.

    Raises:
        Conflict: it is there with other content.
    """
    head = _head(client, location)
    if head is None:
        return False
    if int(head["ContentLength"]) != size:
        raise _conflict(location, f"{head['ContentLength']} bytes, not {size}")
    found = _told(head) or digest_of(client, location)
    if found != digest:
        raise _conflict(location, f"the digest {found}")
    return True


def require_same(client: Client, location: Location, size: int, digest: str) -> None:
    """Make sure that an object that another writer has just put there has this content.

    Raises:
        Conflict: it has not, or may not be read.
    """
    try:
        if present(client, location, size, digest):
            return
    except AccessDenied as error:
        raise _conflict(location, "something that these credentials may not read") from error
    raise _conflict(location, "something that cannot be seen; these credentials may not read it")


def digest_of(
    client: Client, location: Location, on_bytes: Callable[[int], None] | None = None
) -> str:
    """Read an object and return ``sha256:<hex>``."""
    hasher = hashlib.sha256()
    with translated(location):
        body = client.get_object(Bucket=location.bucket, Key=location.key)["Body"]
        with body:
            for block in body.iter_chunks(_BLOCK_BYTES):
                hasher.update(block)
                if on_bytes is not None:
                    on_bytes(len(block))
    return f"sha256:{hasher.hexdigest()}"


def size_of(client: Client, location: Location) -> int:
    """Return an object's size in bytes.

    Raises:
        NotFound, AccessDenied, Unavailable: what the server said.
    """
    with translated(location):
        return int(client.head_object(Bucket=location.bucket, Key=location.key)["ContentLength"])


def _head(client: Client, location: Location) -> dict[str, Any] | None:
    """Return the headers; None where it is absent, or where only a write can tell."""
    with translated(location):
        try:
            return client.head_object(
                Bucket=location.bucket, Key=location.key, ChecksumMode="ENABLED"
            )
        except aws.ClientError as error:
            # S3 answers 403 for a missing key where the caller may not list the bucket.
            if status_of(error) in (_MISSING, _FORBIDDEN) and code_of(error) != "NoSuchBucket":
                return None
            raise


def _told(head: dict[str, Any]) -> str:
    checksum = head.get("ChecksumSHA256", "")
    if (
        checksum
        and head.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT"
        and "-" not in checksum
    ):
        return f"sha256:{base64.b64decode(checksum).hex()}"
    return str(head.get("Metadata", {}).get(DIGEST_KEY, ""))


def _conflict(location: Location, what: str) -> Conflict:
    return Conflict(
        f"{location} holds {what} already; nothing was overwritten",
        "push to another place: keys are written once",
    )

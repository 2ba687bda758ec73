"""Uploading one file as an object that nobody overwrites.

Small files go in one request, whose SHA-256 the server checks; larger ones in parts, side by
side. A part that an interrupted upload has left is used again when its MD5 is that of the file,
below keys that hold a digest: elsewhere the upload may have been begun, and labelled, for other
content.
Readers see nothing until the last request, and that one is made only if the key is still free.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, cast

import botocore.exceptions as aws

from slipway import files
from slipway.errors import Differs
from slipway.storage.client import THREADS, Client, Location, code_of, status_of, translated
from slipway.storage.compare import DIGEST_KEY, present, require_same

PART_BYTES = 8 * 1024 * 1024
_MOST_PARTS = 10_000
_GONE = "NoSuchUpload"
_TAKEN = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409", _GONE}
_BY_DIGEST = re.compile(r"(^|/)sha256/[0-9a-f]{64}/")
_NOT_IMPLEMENTED = 501

Result = Literal["uploaded", "already there"]


def upload(
    client: Client,
    path: Path,
    location: Location,
    digest: str,
    on_bytes: Callable[[int], None],
    *,
    part_bytes: int = PART_BYTES,
    unverified: bool = False,
) -> Result:
    """Upload a file of this digest; ``on_bytes`` is called with the number of bytes that have
    arrived at the server.

    ``unverified`` says that nobody has compared the file with the digest yet: then it is hashed
    while its parts are on their way, and nothing becomes visible unless it is the same.

    Raises:
        Conflict: the key holds other content.
        Differs: the file was changed meanwhile, or is not of this digest.
        AccessDenied, NotFound, Unavailable: what the server said.
    """
    state = _state(path)
    size = path.stat().st_size
    if present(client, location, size, digest):
        on_bytes(size)
        return "already there"
    with translated(location):
        if size <= part_bytes:
            done = _in_one(client, path, location, digest, state)
            on_bytes(size)
        else:
            done = _in_parts(
                client, path, location, digest, state, on_bytes, part_bytes, unverified=unverified
            )
    if not done:
        require_same(client, location, size, digest)
        return "already there"
    return "uploaded"


def require_digest(path: Path, found: str, digest: str) -> None:
    """Refuse a file that is not what its package says.

    Raises:
        Differs: naming the file.
    """
    if found != digest:
        raise Differs(f"{path} is {found}, not {digest}", "pack the model again")


def _in_one(client: Client, path: Path, location: Location, digest: str, state: object) -> bool:
    content = path.read_bytes()
    if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
        raise _changed(path)
    _require_unchanged(path, state)
    checksum = base64.b64encode(bytes.fromhex(digest.removeprefix("sha256:"))).decode()
    return _if_free(
        client.put_object,
        Bucket=location.bucket,
        Key=location.key,
        Body=content,
        ChecksumSHA256=checksum,
        Metadata={DIGEST_KEY: digest},
    )


def _in_parts(
    client: Client,
    path: Path,
    location: Location,
    digest: str,
    state: object,
    on_bytes: Callable[[int], None],
    part_bytes: int,
    *,
    unverified: bool,
) -> bool:
    target = {"Bucket": location.bucket, "Key": location.key}
    size = path.stat().st_size
    part_bytes = max(part_bytes, -(-size // _MOST_PARTS))
    upload_id, left = _resumable(client, target) if _BY_DIGEST.search(location.key) else (None, {})
    if upload_id is None:
        created = client.create_multipart_upload(**target, Metadata={DIGEST_KEY: digest})
        upload_id = str(created["UploadId"])

    def send(number: int) -> dict[str, Any]:
        content = _part(path, number, part_bytes)
        etag = left.get(number)
        if etag is None or etag != f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"':
            etag = client.upload_part(
                **target, UploadId=upload_id, PartNumber=number, Body=content
            )["ETag"]
        on_bytes(len(content))
        return {"PartNumber": number, "ETag": etag}

    pool = ThreadPoolExecutor(THREADS + unverified)
    try:
        hashed = pool.submit(files.digest, path) if unverified else None
        parts = list(pool.map(send, range(1, -(-size // part_bytes) + 1)))
    except aws.ClientError as error:
        if code_of(error) == _GONE:
            return False
        raise
    finally:
        # After an error or Ctrl-C: parts that wait are not begun.
        pool.shutdown(cancel_futures=True)
    try:
        _require_unchanged(path, state)
        if hashed is not None:
            require_digest(path, hashed.result(), digest)
    except Differs:
        client.abort_multipart_upload(**target, UploadId=upload_id)
        raise
    done = _if_free(
        client.complete_multipart_upload,
        **target,
        UploadId=upload_id,
        MultipartUpload={"Parts": parts},
    )
    if not done:
        with suppress(aws.ClientError):  # Gone, where another push of the same has completed it.
            client.abort_multipart_upload(**target, UploadId=upload_id)
    return done


def _resumable(client: Client, target: dict[str, str]) -> tuple[str | None, dict[int, str]]:
    """Return the newest unfinished upload of this key with its parts' ETags, if it may be seen."""
    try:
        pages = client.get_paginator("list_multipart_uploads").paginate(
            Bucket=target["Bucket"], Prefix=target["Key"]
        )
        begun = [item for page in pages for item in page.get("Uploads", [])]
        ours = [item for item in begun if item["Key"] == target["Key"]]
        if not ours:
            return None, {}
        newest = max(ours, key=lambda item: str(item.get("Initiated", "")))
        parts = client.get_paginator("list_parts").paginate(**target, UploadId=newest["UploadId"])
        left = {
            int(part["PartNumber"]): str(part["ETag"])
            for page in parts
            for part in page.get("Parts", [])
        }
        return str(newest["UploadId"]), left
    except aws.ClientError:
        # Not allowed to list, or not known to this server: start over.
        return None, {}


def _if_free(request: Callable[..., Any], **parameters: object) -> bool:
    """Send a request that writes only if the key is free; False where it is not.

    A server that does not know conditional writes is asked without the condition: that the key
    was free a moment ago has been checked.
    """
    try:
        request(**parameters, IfNoneMatch="*")
    except aws.ClientError as error:
        if code_of(error) in _TAKEN:
            return False
        if code_of(error) != "NotImplemented" and status_of(error) != _NOT_IMPLEMENTED:
            raise
        request(**parameters)
    return True


def _part(path: Path, number: int, part_bytes: int) -> bytes:
    with path.open("rb") as file:
        file.seek((number - 1) * part_bytes)
        return file.read(part_bytes)


def _state(path: Path) -> tuple[int, int, int]:
    stat = os.stat(path)  # noqa: PTH116 - one call for all three
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _require_unchanged(path: Path, state: object) -> None:
    if _state(path) != cast("tuple[int, int, int]", state):
        raise _changed(path)


def _changed(path: Path) -> Differs:
    return Differs(f"{path} was changed while it was pushed", "push it again when it is complete")

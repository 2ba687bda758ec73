"""s3:// sources, and the only place that touches boto3 (which has no types).

s3transfer asks HeadObject for the size, which needs only s3:GetObject, then reads ranges in
parallel, each with If-Match, and hands the bytes to the sink in order. An answer to HEAD has no
body, so a refusal is asked about once more by a GET of one byte: its body tells a missing key
from a missing bucket. Nothing that the server says is repeated but its error code.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

import boto3  # pyright: ignore[reportMissingTypeStubs]
import botocore
import botocore.config
import botocore.exceptions as aws
import s3transfer.exceptions as transfer  # pyright: ignore[reportMissingTypeStubs]
from boto3.s3.transfer import TransferConfig  # pyright: ignore[reportMissingTypeStubs]

from slipway_runtime.artifact.sources.base import Sink, TransientError
from slipway_runtime.artifact.sources.trust import system_bundle, tls_context
from slipway_runtime.errors import (
    AccessDenied,
    ArtifactNotFound,
    InvalidArguments,
    SlipwayError,
    SourceUnavailable,
)
from slipway_runtime.settings import FetchSettings

_PARALLEL_PARTS = 8
_PART_BYTES = 8 * 1024 * 1024
_REQUEST_ATTEMPTS = 3
_SERVER_ERROR = 500
_DEFAULT_REGION = "us-east-1"

_NOT_FOUND = {"404", "NoSuchKey", "NoSuchVersion"}
_DENIED = {
    "401",
    "403",
    "AccessDenied",
    "AllAccessDisabled",
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "Forbidden",
    "InvalidAccessKeyId",
    "InvalidObjectState",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}
_TRANSIENT = {
    "InternalError",
    "OperationAborted",
    "PreconditionFailed",  # The object was replaced while it was read.
    "412",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "TooManyRequests",
}


class S3Client(Protocol):
    """The two calls of boto3's S3 client that are used."""

    def get_object(self, **kwargs: str) -> Mapping[str, Any]:
        """GetObject."""
        ...

    def head_object(self, **kwargs: str) -> Mapping[str, Any]:
        """HeadObject; needs s3:GetObject."""
        ...

    def download_fileobj(self, bucket: str, key: str, sink: Sink, **kwargs: object) -> None:
        """Download by s3transfer."""
        ...


class S3Source:
    """Downloads one object of an S3-compatible store."""

    def __init__(self, uri: str, settings: FetchSettings, client: S3Client | None = None) -> None:
        bucket, _, key = uri.partition("://")[2].partition("/")
        if not bucket or not key:
            raise InvalidArguments("an S3 URI must be s3://BUCKET/KEY")
        self._bucket = bucket
        self._key = key
        self._client = client or make_client(settings)

    @property
    def description(self) -> str:
        """The URI."""
        return f"s3://{self._bucket}/{self._key}"

    def beside(self, path: str) -> S3Source:
        """Return the object of this path below the same prefix."""
        other = copy.copy(self)
        folder, slash, _ = self._key.rpartition("/")
        other._key = f"{folder}{slash}{path}"
        return other

    def download(self, sink: Sink, seconds_left: float) -> None:  # noqa: ARG002
        """Download the object. See `Source.download`; the client's own time-outs apply."""
        try:
            head = self._client.head_object(Bucket=self._bucket, Key=self._key)
            total = int(head["ContentLength"])
            sink.expect(total)
            counting = _Counting(sink)
            self._client.download_fileobj(
                self._bucket,
                self._key,
                counting,
                Config=TransferConfig(
                    multipart_threshold=_PART_BYTES,
                    multipart_chunksize=_PART_BYTES,
                    max_concurrency=_PARALLEL_PARTS,
                ),
            )
        except (aws.ClientError, aws.BotoCoreError, aws.HTTPClientError) as error:
            raise self._translate(error) from error
        except (transfer.RetriesExceededError, transfer.S3DownloadFailedError) as error:
            raise TransientError(
                f"{self.description}{self._at()} was cut off, or replaced while it was read"
            ) from error
        if counting.count != total:
            raise TransientError(
                f"{self.description} ended after {counting.count} of the {total} bytes announced"
            )

    def _translate(self, error: Exception) -> SlipwayError:
        if isinstance(error, aws.ClientError):
            return self._refused(error)
        if isinstance(error, (aws.NoCredentialsError, aws.PartialCredentialsError)):
            return AccessDenied(
                f"no credentials for {self.description}: name a Secret with AWS_ACCESS_KEY_ID and"
                " AWS_SECRET_ACCESS_KEY in storage.secretName, or set storage.anonymous"
            )
        if isinstance(error, (aws.ParamValidationError, aws.InvalidRegionError)):
            return InvalidArguments(f"{self.description} is not a valid bucket, key or region")
        if isinstance(error, aws.SSLError):
            return SourceUnavailable(
                f"no trusted TLS connection for {self.description}{self._at()}: name the authority"
                " that signed its certificate in storage.caBundle"
            )
        return TransientError(
            f"{self.description}{self._at()} does not answer: {type(error).__name__}"
        )

    def _refused(self, error: aws.ClientError) -> SlipwayError:
        code, status = _code_and_status(error)
        if code in ("404", "403", "400", "301"):
            code, status = self._ask_again(code, status)
        where = self.description
        if code == "NoSuchBucket":
            return ArtifactNotFound(
                f"there is no bucket {self._bucket!r}{self._at()}, so no {where}"
            )
        if code in _NOT_FOUND:
            return ArtifactNotFound(
                f"there is no object {self._key!r} in bucket {self._bucket!r}{self._at()}"
            )
        if code in _DENIED:
            return AccessDenied(
                f"access to key {self._key!r} in bucket {self._bucket!r}{self._at()} was denied,"
                f" or the object does not exist ({code}): check the credentials, that they allow"
                " s3:GetObject on it, and the key"
            )
        if code in _TRANSIENT or status >= _SERVER_ERROR:
            return TransientError(f"{where}{self._at()} answered {code}")
        return SourceUnavailable(
            f"{where}{self._at()} answered {code}, which another attempt cannot mend:"
            " check storage.endpoint and storage.region"
        )

    def _ask_again(self, code: str, status: int) -> tuple[str, int]:
        """Return the error code from the body of a GET, where HEAD had none to give."""
        try:
            self._client.get_object(Bucket=self._bucket, Key=self._key, Range="bytes=0-0")
        except aws.ClientError as error:
            return _code_and_status(error)
        except (aws.BotoCoreError, aws.HTTPClientError):
            return code, status
        return "TemporarilyRefused", _SERVER_ERROR

    def _at(self) -> str:
        meta = getattr(self._client, "meta", None)
        endpoint = getattr(meta, "endpoint_url", None)
        return f" at {str(endpoint).partition('?')[0]}" if endpoint else ""


class _Counting:
    """Counts what passes to the sink; not seekable, so s3transfer keeps the order."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.count = 0

    def expect(self, total: int) -> None:
        self._sink.expect(total)

    def write(self, data: bytes) -> int:
        self.count += len(data)
        return self._sink.write(data)


def make_client(settings: FetchSettings) -> S3Client:
    """Build the client; credentials come by boto3's own chain (environment, IRSA, …).

    Raises:
        InvalidArguments: the endpoint is malformed or the CA bundle cannot be read.
    """
    if settings.endpoint_url and "@" in urlsplit(settings.endpoint_url).netloc:
        raise InvalidArguments(
            "the endpoint holds a user name or password, which logs and status would show: put them"
            " into the Secret that storage.secretName names"
        )
    config = botocore.config.Config(
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
        retries={"mode": "standard", "total_max_attempts": _REQUEST_ATTEMPTS},
        s3={"addressing_style": settings.addressing_style},
        max_pool_connections=_PARALLEL_PARTS,
        # Not "when_required": s3transfer 0.19.3 then schedules the parts from within the first
        # one's task, and with a sink that cannot seek it waits for itself from the 11th part on.
        response_checksum_validation="when_supported",
        **({"signature_version": botocore.UNSIGNED} if settings.anonymous else {}),
    )
    make = cast("Any", boto3).session.Session().client
    try:
        return cast(
            "S3Client",
            make(
                "s3",
                endpoint_url=settings.endpoint_url,
                region_name=settings.region or _DEFAULT_REGION,
                config=config,
                verify=_authorities(settings.ca_bundle),
            ),
        )
    except (ValueError, aws.BotoCoreError) as error:
        raise InvalidArguments(
            "the S3 client refuses its settings: check storage.endpoint"
            " (https://HOST[:PORT]) and storage.region"
        ) from error


def _authorities(ca_bundle: Path | None) -> str | bool:
    """Return what botocore's ``verify`` wants: a file, since it takes only one."""
    system = system_bundle()
    if ca_bundle is None:
        return str(system) if system else True
    tls_context(ca_bundle)  # Refuses what is not PEM, with a better message than botocore's.
    # In memory, since nothing but the cache may be writable; it stays open to the process's end.
    descriptor = os.memfd_create("authorities")
    for path in (system, ca_bundle):
        if path is not None:
            os.write(descriptor, path.read_bytes() + b"\n")
    return f"/proc/self/fd/{descriptor}"


def _code_and_status(error: aws.ClientError) -> tuple[str, int]:
    response = cast("Mapping[str, Any]", error.response)
    code = str(response.get("Error", {}).get("Code", "unknown"))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return code, status

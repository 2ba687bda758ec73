"""s3:// sources, and the only place that touches boto3 (which has no types).

Only GetObject is called, with ranges and If-Match: the size comes with the first range. Of what the
server says only its error code is repeated.
"""

from __future__ import annotations

import copy
import http.client
import os
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

import boto3  # pyright: ignore[reportMissingTypeStubs]
import botocore
import botocore.config
import botocore.exceptions as aws
import urllib3.exceptions

from slipway_runtime.artifact.sources.base import (
    Range,
    ReplacedError,
    TransientError,
    pause_of,
    strong,
    total_of,
)
from slipway_runtime.artifact.sources.trust import system_bundle, tls_context
from slipway_runtime.errors import (
    AccessDenied,
    ArtifactNotFound,
    InvalidArguments,
    SlipwayError,
    SourceUnavailable,
)
from slipway_runtime.settings import FetchSettings

# Without keys boto3 asks the metadata service of an EC2 node, which answers with the credentials
# of the node: a model's pod connects to its storage alone, and what it may read is named with it.
# To use the node's role, set this to `false`.
os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")

_SERVER_ERROR = 500
_UNSATISFIABLE = 416
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
    "408",
    "425",
    "429",
    "InternalError",
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "TooManyRequests",
}
_REPLACED = {"PreconditionFailed", "412"}
_NO_BUCKET = "NoSuchBucket"
_KNOWN = _NOT_FOUND | _DENIED | _TRANSIENT | _REPLACED | {_NO_BUCKET}
_CUT = (aws.IncompleteReadError, aws.ResponseStreamingError, http.client.HTTPException)
_NO_ANSWER = (aws.BotoCoreError, aws.HTTPClientError, urllib3.exceptions.HTTPError)


class S3Client(Protocol):
    """The one call of boto3's S3 client that is used."""

    def get_object(self, **kwargs: str) -> Mapping[str, Any]:
        """GetObject."""
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

    @contextmanager
    def open(self, wanted: Range, seconds_left: float) -> Generator[_Body]:  # noqa: ARG002
        """GetObject of a range. See `Source.open`; the client's own timeouts apply."""
        parameters = {"Range": wanted.header}
        if wanted.validator is not None:
            parameters["IfMatch"] = wanted.validator
        got = self._get(parameters)
        with closing(got["Body"]) as body:
            if "ContentRange" in got:
                total = total_of(got["ContentRange"], wanted, self.description)
            elif wanted.start == 0:
                total = int(got["ContentLength"])
            else:
                raise ReplacedError(f"{self.description} no longer answers with ranges")
            yield _Body(body, self, total, strong(got.get("ETag")), "ContentRange" in got)

    def _get(self, parameters: dict[str, str]) -> Mapping[str, Any]:
        try:
            return self._client.get_object(Bucket=self._bucket, Key=self._key, **parameters)
        except aws.ClientError as error:
            if "Range" not in parameters or _code_and_status(error)[1] != _UNSATISFIABLE:
                raise self.translated(error) from error
            if not parameters["Range"].startswith("bytes=0-"):
                raise ReplacedError(
                    f"{self.description}{self._at()} is shorter than it announced"
                ) from error
        except _NO_ANSWER as error:
            raise self.translated(error) from error
        # An empty object has no first byte.
        return self._get({})

    def translated(self, error: Exception) -> SlipwayError:
        """Return what an exception of boto3 means."""
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
        where = f"{self.description}{self._at()}"
        if isinstance(error, _CUT):
            return TransientError(f"{where} was cut off in the middle of the body")
        return TransientError(f"{where} does not answer: {type(error).__name__}")

    def _refused(self, error: aws.ClientError) -> SlipwayError:
        code, status = _code_and_status(error)
        if code not in _KNOWN and str(status) in _KNOWN:
            # Gateways and other stores answer without S3's document, or with codes of their own.
            code = str(status)
        where = self.description
        if code == _NO_BUCKET:
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
        if code in _REPLACED:
            return ReplacedError(f"{where}{self._at()} was replaced while it was read")
        if code in _TRANSIENT or status >= _SERVER_ERROR:
            return TransientError(
                f"{where}{self._at()} answered {code}", pause_of(_retry_after(error))
            )
        return SourceUnavailable(
            f"{where}{self._at()} answered {code}, which another attempt cannot fix:"
            " check storage.endpoint and storage.region"
        )

    def _at(self) -> str:
        meta = getattr(self._client, "meta", None)
        endpoint = getattr(meta, "endpoint_url", None)
        return f" at {str(endpoint).partition('?')[0]}" if endpoint else ""


@dataclass
class _Body:
    """The body of an answer; see `Answer`."""

    body: Any
    source: S3Source
    total: int
    validator: str | None
    ranged: bool

    def readinto(self, view: memoryview) -> int:
        """Read the next bytes."""
        try:
            raw = getattr(self.body, "_raw_stream", None)
            response = getattr(raw, "_fp", None)
            if raw is None or not isinstance(response, http.client.HTTPResponse):
                return self.body.readinto(view)
            # Past urllib3, which makes an object of every block and copies it. It is told when the
            # connection is free for the next request.
            count = response.readinto(view)
            if response.isclosed() and not response.length:
                raw.release_conn()
            return count
        except (*_NO_ANSWER, http.client.HTTPException, OSError) as error:
            raise self.source.translated(error) from error


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
        # Retries are the transfer's job, which resumes at the byte that was reached.
        retries={"mode": "standard", "total_max_attempts": 1},
        s3={"addressing_style": settings.addressing_style},
        max_pool_connections=settings.connections,
        # The digest decides; another checksum would cost a core that hashing needs.
        response_checksum_validation="when_required",
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


def _retry_after(error: aws.ClientError) -> str | None:
    response = cast("Mapping[str, Any]", error.response)
    return response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("retry-after")


def _code_and_status(error: aws.ClientError) -> tuple[str, int]:
    response = cast("Mapping[str, Any]", error.response)
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return str(response.get("Error", {}).get("Code") or status), status

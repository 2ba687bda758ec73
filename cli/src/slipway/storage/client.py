"""The S3 client, its settings, and what its errors mean; botocore has no types.

Not boto3: what that adds is not needed here, and importing it takes as long again.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import botocore.config
import botocore.exceptions as aws
import botocore.session

from slipway.errors import AccessDenied, InvalidArguments, NotFound, SlipwayError, Unavailable

Client = Any
"""A botocore S3 client."""

THREADS = 8
_ATTEMPTS = 5
_SERVER_ERROR = 500
_DEFAULT_REGION = "us-east-1"
_SCHEME = "s3://"
_NOT_FOUND = {"404", "NoSuchKey", "NotFound"}
_DENIED = {
    "401",
    "403",
    "AccessDenied",
    "ExpiredToken",
    "Forbidden",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
}


@dataclass(frozen=True)
class Settings:
    """How the server is reached; credentials come by botocore's own chain."""

    endpoint: str | None = None
    region: str | None = None
    addressing_style: str = "auto"
    ca_bundle: Path | None = None


@dataclass(frozen=True)
class Location:
    """An object, or with a ``key`` that is a prefix, a place for objects."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, uri: str) -> Location:
        """Read ``s3://BUCKET/KEY``; the key may be empty.

        Raises:
            InvalidArguments: any other form.
        """
        bucket, _, key = uri.removeprefix(_SCHEME).partition("/")
        if not uri.startswith(_SCHEME) or not bucket:
            raise InvalidArguments(f"{uri!r} is not of the form s3://BUCKET/KEY")
        return cls(bucket, key.rstrip("/"))

    def join(self, *parts: str) -> Location:
        """Return a place below this one."""
        return Location(self.bucket, "/".join(part for part in (self.key, *parts) if part))

    def __str__(self) -> str:
        """Return the URI."""
        return f"{_SCHEME}{self.bucket}/{self.key}"


def connect(settings: Settings) -> Client:
    """Make a client; nothing is contacted yet.

    Raises:
        InvalidArguments: the settings are malformed.
    """
    if settings.ca_bundle is not None and not settings.ca_bundle.is_file():
        raise InvalidArguments(f"there is no CA bundle {settings.ca_bundle}")
    try:
        session = cast("Any", botocore.session).get_session()
        config = botocore.config.Config(
            connect_timeout=10,
            read_timeout=60,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            s3={"addressing_style": settings.addressing_style, **_signing(session)},
            max_pool_connections=THREADS + 2,
        )
        return session.create_client(
            "s3",
            endpoint_url=settings.endpoint,
            region_name=settings.region or _DEFAULT_REGION,
            config=config,
            verify=str(settings.ca_bundle) if settings.ca_bundle else None,
        )
    except (ValueError, aws.BotoCoreError) as error:
        raise InvalidArguments(
            f"the S3 client refuses its settings: {error}",
            "check --endpoint (https://HOST[:PORT]) and --region",
        ) from None


def _signing(session: Any) -> dict[str, bool]:
    """Whether bodies are signed, as an entry of the section s3.

    They bear a checksum that the server compares; to sign them as well would hash all of it once
    more on either side, and whoever loads it holds it to its digest. They are signed where the user
    has switched those checksums off, or wants it so.
    """
    wished = session.get_scoped_config().get("s3")
    if isinstance(wished, dict) and "payload_signing_enabled" in wished:
        value = cast("dict[str, object]", wished)["payload_signing_enabled"]
        return {"payload_signing_enabled": str(value).lower() == "true"}
    if session.get_config_variable("request_checksum_calculation") == "when_required":
        return {}
    return {"payload_signing_enabled": False}


def code_of(error: Exception) -> str:
    """Return the error code that the server gave, or "" where there is none."""
    if not isinstance(error, aws.ClientError):
        return ""
    return str(cast("Any", error).response.get("Error", {}).get("Code", ""))


def status_of(error: Exception) -> int:
    """Return the HTTP status of the server's answer, or 0."""
    if not isinstance(error, aws.ClientError):
        return 0
    return int(cast("Any", error).response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


@contextmanager
def translated(location: Location) -> Generator[None, None, None]:
    """Turn botocore's errors about one object into this package's."""
    try:
        yield
    except (aws.ClientError, aws.BotoCoreError, aws.HTTPClientError) as error:
        raise _meaning(error, location) from error


def _meaning(error: Exception, location: Location) -> SlipwayError:
    code, status = code_of(error), status_of(error)
    if isinstance(error, (aws.NoCredentialsError, aws.PartialCredentialsError)):
        return AccessDenied(
            f"no credentials for {location}",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
        )
    if isinstance(error, aws.ParamValidationError):
        return InvalidArguments(f"{location} is no valid bucket or key")
    if isinstance(error, aws.SSLError):
        return Unavailable(
            f"no trusted TLS connection for {location}: {_first_line(error)}",
            "name the server's authority with --ca-bundle",
        )
    if code == "NoSuchBucket":
        return NotFound(f"there is no bucket {location.bucket!r}", "check --to and --endpoint")
    if code in _NOT_FOUND:
        return NotFound(f"there is no object {location}")
    if code in _DENIED:
        return AccessDenied(
            f"access to {location} was denied ({code})",
            "check the credentials: push needs s3:PutObject and s3:GetObject, verify s3:GetObject",
        )
    if code and status < _SERVER_ERROR:
        return Unavailable(
            f"the server answered {code} for {location}", "check --endpoint and --region"
        )
    return Unavailable(
        f"the server does not answer for {location}: {code or _first_line(error)}",
        "check --endpoint and the network, and run the same command again: it goes on from there",
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]

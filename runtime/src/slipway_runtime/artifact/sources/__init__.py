"""Where artifacts come from: one file per kind of source."""

from __future__ import annotations

from slipway_runtime.artifact.sources.base import (
    Answer,
    Range,
    ReplacedError,
    Source,
    TransientError,
)
from slipway_runtime.errors import InvalidArguments
from slipway_runtime.settings import FetchSettings

__all__ = ["Answer", "Range", "ReplacedError", "Source", "TransientError", "open_source"]

_SCHEMES = "s3://BUCKET/KEY, https://HOST/PATH, http://HOST/PATH, pvc://CLAIM/PATH or file:///PATH"


def open_source(uri: str, settings: FetchSettings) -> Source:
    """Return the source for a URI; nothing is contacted yet.

    Raises:
        InvalidArguments: the URI is malformed or its scheme unknown.
    """
    scheme, separator, _ = uri.partition("://")
    match scheme.lower() if separator else "":
        case "s3":
            # Imported here: boto3 costs 0.4 s that the other sources need not pay.
            from slipway_runtime.artifact.sources.s3 import S3Source  # noqa: PLC0415

            return S3Source(uri, settings)
        case "https" | "http":
            from slipway_runtime.artifact.sources.http import HttpSource  # noqa: PLC0415

            return HttpSource(uri, settings)
        case "file":
            from slipway_runtime.artifact.sources.file import FileSource  # noqa: PLC0415

            return FileSource.from_uri(uri)
        case "pvc":
            from slipway_runtime.artifact.sources.file import FileSource  # noqa: PLC0415

            return FileSource.from_claim(uri, settings.claim_dir)
        case "":
            raise InvalidArguments(f"the URI has no scheme: it must be {_SCHEMES}")
        case other:
            raise InvalidArguments(f"no source for {other[:20]}:// : the URI must be {_SCHEMES}")

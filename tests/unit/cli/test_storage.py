"""What leaves for the storage: requests are caught before they are sent."""

from __future__ import annotations

import base64
import hashlib
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from cli_kit.models import digest_of

from slipway.storage.client import Location, Settings, connect
from slipway.storage.upload import PART_BYTES, upload

CONTENT = bytes(range(256)) * (2 * PART_BYTES // 256)
PARTS = [CONTENT[:PART_BYTES], CONTENT[PART_BYTES:]]


class Raw(io.BytesIO):
    def stream(self, **_: object) -> Iterator[bytes]:
        yield self.read()


def answer(request: Any) -> AWSResponse:
    if request.method == "HEAD":
        return AWSResponse(request.url, 404, {}, Raw())
    body = b"<X><UploadId>u</UploadId></X>"
    return AWSResponse(request.url, 200, {"ETag": '"e"'}, Raw(body))


CRC32 = "x-amz-checksum-crc32"
UNSIGNED, TRAILER = b"UNSIGNED-PAYLOAD", b"STREAMING-UNSIGNED-PAYLOAD-TRAILER"


def crc32(part: bytes) -> bytes:
    return base64.b64encode(zlib.crc32(part).to_bytes(4))


def sha256(part: bytes) -> bytes:
    return hashlib.sha256(part).hexdigest().encode()


@pytest.mark.parametrize(
    ("endpoint", "config", "headers"),
    [
        (
            "http://storage.test",
            "",
            lambda part: {CRC32: crc32(part), "X-Amz-Content-SHA256": UNSIGNED},
        ),
        (
            "https://storage.test",
            "",
            lambda _part: {"X-Amz-Trailer": CRC32.encode(), "X-Amz-Content-SHA256": TRAILER},
        ),
        # Checksums that the user has switched off, or signatures that the user wants.
        *(
            (
                f"{scheme}://storage.test",
                "request_checksum_calculation = when_required",
                lambda part: {"X-Amz-Content-SHA256": sha256(part)},
            )
            for scheme in ("http", "https")
        ),
        (
            "http://storage.test",
            "s3 =\n  payload_signing_enabled = true",
            lambda part: {CRC32: crc32(part), "X-Amz-Content-SHA256": sha256(part)},
        ),
    ],
)
def test_each_part_bears_what_the_server_checks_it_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str, config: str, headers: Any
) -> None:
    (tmp_path / "config").write_text(f"[default]\n{config}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    path = tmp_path / "model.onnx"
    path.write_bytes(CONTENT)
    client = connect(Settings(endpoint))
    sent: dict[str, dict[str, Any]] = {}

    def catch(request: Any, **_: object) -> AWSResponse:
        if "partNumber" in request.url:
            sent[request.url.partition("partNumber=")[2][0]] = {
                name: value.encode() if isinstance(value, str) else value
                for name, value in request.headers.items()
            }
        return answer(request)

    client.meta.events.register("before-send.s3", catch)
    location = Location("models", "model.onnx")
    assert upload(client, path, location, digest_of(CONTENT), lambda _: None) == "uploaded"
    for number, part in zip("12", PARTS, strict=True):
        assert headers(part).items() <= sent[number].items()

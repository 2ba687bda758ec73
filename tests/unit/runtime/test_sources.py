"""Sources against a real local server that misbehaves, through `fetch` without pauses."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import cast

import pytest
import trustme
from runtime_kit import onnx_models, packages
from runtime_kit.faulty_http import Answer, FaultyServer, Seen
from runtime_kit.process import digest_of

from slipway_dev.network import free_port
from slipway_runtime import errors
from slipway_runtime.artifact.cache import Cache
from slipway_runtime.artifact.digest import Digest
from slipway_runtime.artifact.fetch import fetch
from slipway_runtime.artifact.retry import Retry
from slipway_runtime.artifact.sources import open_source
from slipway_runtime.settings import FetchSettings

CONTENT = b"\x08\x0a" * 50_000
DIGEST = Digest.parse(digest_of(CONTENT))
OK = Answer(body=CONTENT)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "top-secret-value")


def run(tmp_path: Path, uri: str, **settings: object) -> Path:
    pauses = cast("list[float]", settings.pop("pauses", []))
    values = FetchSettings.model_validate({"connect_timeout": 2.0, "read_timeout": 2.0, **settings})
    return fetch(
        open_source(uri, values),
        DIGEST,
        Cache(tmp_path / "cache"),
        max_bytes=1_000_000,
        retry=Retry(attempts=3, deadline=1000, sleep=pauses.append),
        connections=values.connections,
    )


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param([], id="no fault"),
        pytest.param([Answer(500)], id="500"),
        pytest.param([Answer(503), Answer(429)], id="503 and 429"),
        pytest.param([Answer(body=CONTENT[:1000], announce=len(CONTENT))], id="cut"),
        pytest.param([Answer(body=CONTENT[:1000], chunked_and_cut=True)], id="cut while chunked"),
        pytest.param([Answer(body=b"", announce=len(CONTENT))], id="cut before the body"),
        pytest.param([Answer(delay=3.0)], id="no answer in time"),
    ],
)
def test_https_transient_faults_heal(tmp_path: Path, faults: list[Answer]) -> None:
    with FaultyServer([*faults, OK]) as server:
        assert run(tmp_path, f"{server.url}/model.onnx").read_bytes() == CONTENT
        assert len(server.seen) == len(faults) + 1


@pytest.mark.parametrize(
    ("told", "least", "most"),
    [
        ("30", 30, 30),
        ("a date in 40 s", 30, 40),
        ("86400", 120, 120),
        ("a date 40 s ago", 0, 1),
        ("soon", 0, 1),
        ("-5", 0, 1),
        ("", 0, 1),
    ],
)
def test_a_source_that_says_when_to_come_back_is_left_alone_until_then(
    tmp_path: Path, told: str, least: float, most: float
) -> None:
    pauses: list[float] = []
    if told.startswith("a date"):
        told = formatdate(time.time() + (40 if " in " in told else -40), usegmt=True)
    later = Answer(429, headers={"Retry-After": told})
    with FaultyServer([later, OK]) as server:
        run(tmp_path, f"{server.url}/model.onnx", pauses=pauses)
    assert len(pauses) == 1
    assert least <= pauses[0] <= most


@pytest.mark.parametrize(
    ("answer", "kind", "message", "requests"),
    [
        (Answer(404), errors.ArtifactNotFound, "does not exist", 1),
        (Answer(410), errors.ArtifactNotFound, "does not exist", 1),
        (Answer(403), errors.AccessDenied, "denied, or the object does not exist", 1),
        (Answer(401), errors.AccessDenied, "denied", 1),
        (Answer(418), errors.SourceUnavailable, "answered 418", 1),
        (Answer(204), errors.SourceUnavailable, "answered 204", 1),
        (Answer(500), errors.SourceUnavailable, "answered 500.*after 3 attempts", 3),
        (Answer(body=CONTENT[:9]), errors.DigestMismatch, "holds 9 bytes", 1),
        (Answer(body=b"x" * 1_000_001), errors.TooLarge, "above the limit", 1),
        (
            Answer(302, headers={"Location": "file:///etc/passwd"}),
            errors.SourceUnavailable,
            "leads where it is not followed",
            1,
        ),
        (
            Answer(302, headers={"Location": "ftp://127.0.0.1/x"}),
            errors.SourceUnavailable,
            "redirects to ftp://",
            1,
        ),
        (
            Answer(302, headers={"Location": "http://[bad/x"}),
            errors.SourceUnavailable,
            "redirects to a malformed URL",
            1,
        ),
    ],
)
def test_https_answers_become_reasons(
    tmp_path: Path, answer: Answer, kind: type[errors.Failure], message: str, requests: int
) -> None:
    with FaultyServer([answer]) as server, pytest.raises(kind, match=message) as caught:
        run(tmp_path, f"{server.url}/model.onnx?X-Signature=hidden-value")
    assert len(server.seen) == requests
    assert "hidden-value" not in caught.value.message
    assert "/model.onnx?… " in caught.value.message


def test_https_redirects_are_followed(tmp_path: Path) -> None:
    def answer(seen: Seen) -> Answer:
        if seen.path == "/old":
            return Answer(302, headers={"Location": "/new?token=1"})
        return OK if seen.path == "/new?token=1" else Answer(404)

    with FaultyServer(answer) as server:
        assert run(tmp_path, f"{server.url}/old").exists()


def test_an_endless_redirect_ends(tmp_path: Path) -> None:
    with FaultyServer([Answer(302, headers={"Location": "/again"})]) as server:
        with pytest.raises(errors.SourceUnavailable):
            run(tmp_path, f"{server.url}/again")
        assert len(server.seen) <= 12


def test_a_host_that_refuses_connections_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(errors.SourceUnavailable, match="does not answer: Connection refused"):
        run(tmp_path, f"http://127.0.0.1:{free_port()}/x")


def test_a_name_that_does_not_resolve_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(errors.SourceUnavailable, match="does not answer"):
        run(tmp_path, "https://name.invalid/x")


def test_https_trusts_the_extra_authorities_and_only_then(tmp_path: Path) -> None:
    authority = trustme.CA()
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    with FaultyServer([OK], certificate=authority.issue_cert("127.0.0.1")) as server:
        with pytest.raises(errors.SourceUnavailable, match=r"is not trusted.*caBundle"):
            run(tmp_path, f"{server.url}/x")
        assert run(tmp_path, f"{server.url}/x", ca_bundle=bundle).exists()


def test_a_redirect_from_https_down_to_http_is_not_followed(tmp_path: Path) -> None:
    authority = trustme.CA()
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    with FaultyServer([OK]) as plain:
        down = Answer(302, headers={"Location": f"{plain.url}/x"})
        with (
            FaultyServer([down], certificate=authority.issue_cert("127.0.0.1")) as server,
            pytest.raises(errors.SourceUnavailable, match="redirects to http://"),
        ):
            run(tmp_path, f"{server.url}/x", ca_bundle=bundle)
        assert plain.seen == []


@pytest.mark.parametrize(
    "uri",
    [
        "model.onnx",
        "ftp://host/x",
        "gs://bucket/x",
        "pvc:///x",
        "s3://bucket",
        "s3:///key",
        "https:///x",
        "https://user:pw@host/x",
        "https://host:port/x",
        "https://host/with blank",
        "https://host/m\u00fcller.onnx",
        "file://host/x",
        "file:relative",
    ],
)
def test_a_malformed_uri_is_refused_before_anything_is_contacted(tmp_path: Path, uri: str) -> None:
    with pytest.raises(errors.InvalidArguments) as caught:
        run(tmp_path, uri)
    assert "pw" not in caught.value.message


def test_a_bundle_that_is_not_pem_is_refused(tmp_path: Path) -> None:
    for uri in ("https://127.0.0.1/x", "s3://bucket/key"):
        bundle = tmp_path / "ca.pem"
        bundle.write_text("nonsense")
        with pytest.raises(errors.InvalidArguments, match="SLIPWAY_CA_BUNDLE"):
            run(tmp_path, uri, ca_bundle=bundle)


def test_a_file_is_copied(tmp_path: Path) -> None:
    original = tmp_path / "a model.onnx"
    original.write_bytes(CONTENT)
    path = run(tmp_path, f"file://{tmp_path}/a%20model.onnx")
    assert path.read_bytes() == CONTENT
    assert path.stat().st_ino != original.stat().st_ino


def test_a_file_of_a_claim_is_copied(tmp_path: Path) -> None:
    claim = tmp_path / "claim"
    (claim / "fraud").mkdir(parents=True)
    (claim / "fraud/model.onnx").write_bytes(CONTENT)
    (claim / "latest.onnx").symlink_to("fraud/model.onnx")
    for number, path in enumerate(("fraud/model.onnx", "latest.onnx")):
        copied = run(tmp_path / str(number), f"pvc://models/{path}", claim_dir=claim)
        assert copied.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("uri", "kind", "message"),
    [
        ("pvc://models", errors.InvalidArguments, "pvc://CLAIM/PATH"),
        ("pvc://models/../other.onnx", errors.InvalidArguments, "without '..'"),
        ("pvc://models/link.onnx", errors.InvalidArguments, "leads out of its claim"),
        ("pvc://models/none.onnx", errors.ArtifactNotFound, "no file pvc://models/none.onnx"),
        ("pvc://models/folder", errors.ArtifactNotFound, "pvc://models/folder is not a file"),
    ],
)
def test_what_a_claim_does_not_hold_is_told(
    tmp_path: Path, uri: str, kind: type[errors.Failure], message: str
) -> None:
    claim = tmp_path / "claim"
    (claim / "folder").mkdir(parents=True)
    (tmp_path / "other.onnx").write_bytes(CONTENT)
    (claim / "link.onnx").symlink_to(tmp_path / "other.onnx")
    with pytest.raises(kind, match=message):
        run(tmp_path, uri, claim_dir=claim)


def test_no_file_of_a_package_is_a_link_out_of_the_claim(tmp_path: Path) -> None:
    folder = tmp_path / "claim/fraud"
    digest = packages.write(folder, {"model.onnx": ("model", onnx_models.linear())})
    outside = (folder / "model.onnx").rename(tmp_path / "model.onnx")
    (folder / "model.onnx").symlink_to(outside)
    values = FetchSettings.model_validate({"claim_dir": tmp_path / "claim"})
    source = open_source("pvc://models/fraud/slipway.json", values)
    cache = Cache(tmp_path / "cache")
    with pytest.raises(errors.InvalidArguments, match="leads out of its claim"):
        fetch(source, Digest.parse(digest), cache, max_bytes=None, retry=Retry(attempts=1))


def test_a_claim_that_is_not_mounted_is_told(tmp_path: Path) -> None:
    for claim_dir in (None, tmp_path / "nowhere"):
        with pytest.raises(errors.InvalidArguments, match="SLIPWAY_CLAIM_DIR"):
            run(tmp_path, "pvc://models/model.onnx", claim_dir=claim_dir)


def test_a_missing_file_and_a_directory_are_not_found(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(errors.ArtifactNotFound):
            run(tmp_path, f"file://{path}")


def s3_error(status: int, code: str) -> Answer:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>text</Message></Error>"
    return Answer(status, body.encode(), headers={"Content-Type": "application/xml"})


def s3_object(seen: Seen) -> Answer:
    """An object store that holds CONTENT as bucket/a/key.onnx, ranges included."""
    if seen.path.partition("?")[0] != "/bucket/a/key.onnx":
        return s3_error(404, "NoSuchKey")
    headers = {"ETag": '"e"'}
    wanted = seen.headers.get("Range")
    if wanted is None:
        return Answer(body=CONTENT, headers=headers)
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    end = int(last or len(CONTENT) - 1) + 1
    part = CONTENT[int(first) : end]
    headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(CONTENT)}"
    return Answer(206, part, headers=headers)


def s3(tmp_path: Path, answers: Callable[[Seen], Answer], **settings: object) -> list[Seen]:
    with FaultyServer(answers) as server:
        try:
            path = run(
                tmp_path,
                "s3://bucket/a/key.onnx",
                endpoint_url=server.url,
                addressing_style="path",
                **settings,
            )
            assert path.read_bytes() == CONTENT
        except errors.Failure as failure:
            failure.add_note(f"{len(server.seen)} requests")
            raise
        return server.seen


def test_s3_needs_only_get_object(tmp_path: Path) -> None:
    seen = s3(tmp_path, s3_object)
    assert {(request.method, request.path) for request in seen} == {("GET", "/bucket/a/key.onnx")}
    assert all("AWS4-HMAC-SHA256" in request.headers["Authorization"] for request in seen)


def test_s3_anonymous_requests_are_not_signed(tmp_path: Path) -> None:
    seen = s3(tmp_path, s3_object, anonymous=True)
    assert all("Authorization" not in request.headers for request in seen)


def test_s3_the_region_is_signed_for(tmp_path: Path) -> None:
    seen = s3(tmp_path, s3_object, region="eu-west-1")
    assert all("/eu-west-1/s3/" in request.headers["Authorization"] for request in seen)


def test_s3_parts_of_a_large_object_are_put_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipway_runtime.artifact.transfer.PART_BYTES", 7_000)
    monkeypatch.setattr("slipway_runtime.artifact.transfer._PARTS_ALONE", 1)
    seen = s3(tmp_path, s3_object)
    ranges = [request.headers["Range"] for request in seen if "Range" in request.headers]
    assert len(ranges) == 15
    assert all(
        request.headers.get("If-Match") == '"e"'
        for request in seen
        if request.headers["Range"] != "bytes=0-6999"
    )


def test_s3_bodies_are_read_past_urllib3_and_connections_are_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copies(*_arguments: object) -> bytes:
        raise AssertionError("a body was copied")

    monkeypatch.setattr("slipway_runtime.artifact.transfer.PART_BYTES", 7_000)
    monkeypatch.setattr("urllib3.response.HTTPResponse.read", copies)
    with FaultyServer(s3_object, keep_alive=True) as server:
        options = {"endpoint_url": server.url, "addressing_style": "path", "connections": 1}
        assert run(tmp_path, "s3://bucket/a/key.onnx", **options).read_bytes() == CONTENT
        assert (len(server.seen) > 2, server.connections) == (True, 1)


@pytest.mark.parametrize(
    ("status", "code", "kind", "message"),
    [
        (404, "NoSuchKey", errors.ArtifactNotFound, "no object 'a/key.onnx' in bucket 'bucket'"),
        (404, "NoSuchBucket", errors.ArtifactNotFound, "no bucket 'bucket'"),
        (
            403,
            "AccessDenied",
            errors.AccessDenied,
            "key 'a/key.onnx' in bucket 'bucket'.*denied, or the object does not exist",
        ),
        (403, "InvalidAccessKeyId", errors.AccessDenied, "InvalidAccessKeyId"),
        (403, "SignatureDoesNotMatch", errors.AccessDenied, "SignatureDoesNotMatch"),
        (400, "ExpiredToken", errors.AccessDenied, "ExpiredToken"),
        (400, "BadRequest", errors.SourceUnavailable, "storage.endpoint"),
    ],
)
def test_s3_refusals_become_reasons_without_retries(
    tmp_path: Path, status: int, code: str, kind: type[errors.Failure], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        s3(tmp_path, lambda _seen: s3_error(status, code))
    assert "top-secret-value" not in caught.value.message
    # After a 400 botocore also asks for the bucket's region.
    assert caught.value.__notes__ in (["1 requests"], ["2 requests"])


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (404, errors.ArtifactNotFound, "no object 'a/key.onnx'"),
        (401, errors.AccessDenied, r"denied.*\(401\)"),
        (403, errors.AccessDenied, r"denied, or the object does not exist \(403\)"),
        (418, errors.SourceUnavailable, "answered 418, which another attempt cannot fix"),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>no</html>"], ids=["empty", "page"])
def test_s3_refusals_without_its_document_become_reasons_by_their_status(
    tmp_path: Path, status: int, kind: type[errors.Failure], message: str, body: bytes
) -> None:
    page = Answer(status, body, headers={"Content-Type": "text/html"})
    with pytest.raises(kind, match=message):
        s3(tmp_path, lambda _seen: page)


@pytest.mark.parametrize("status", [408, 425, 429, 412, 502])
def test_s3_what_a_gateway_refuses_for_now_is_tried_again(tmp_path: Path, status: int) -> None:
    answered: list[Seen] = []

    def answer(seen: Seen) -> Answer:
        answered.append(seen)
        page = Answer(status, b"<html>later</html>", headers={"Content-Type": "text/html"})
        return page if len(answered) <= 2 else s3_object(seen)

    s3(tmp_path, answer)
    assert len(answered) > 2


def test_s3_server_errors_are_retried_and_heal(tmp_path: Path) -> None:
    answered: list[Seen] = []
    pauses: list[float] = []

    def answer(seen: Seen) -> Answer:
        answered.append(seen)
        slow = s3_error(503, "SlowDown")
        if len(answered) == 1:
            return replace(slow, headers={**slow.headers, "Retry-After": "30"})
        return slow if len(answered) == 2 else s3_object(seen)

    s3(tmp_path, answer, pauses=pauses)
    assert len(answered) > 2
    assert pauses[0] == 30
    assert pauses[1] <= 1


def test_s3_a_cut_body_is_gone_on_with_until_it_is_whole(tmp_path: Path) -> None:
    cuts: list[Seen] = []

    def answer(seen: Seen) -> Answer:
        whole = s3_object(seen)
        if len(cuts) < 7:
            cuts.append(seen)
            return replace(whole, body=whole.body[:10], announce=len(whole.body))
        return whole

    seen = s3(tmp_path, answer)
    starts = [request.headers["Range"].partition("-")[0] for request in seen]
    assert starts == [f"bytes={10 * number}" for number in range(8)]
    assert {request.headers.get("If-Match") for request in seen[1:]} == {'"e"'}


def test_s3_an_object_that_is_replaced_between_two_ranges_is_fetched_anew(tmp_path: Path) -> None:
    seen: list[Seen] = []

    def answer(request: Seen) -> Answer:
        seen.append(request)
        whole = s3_object(request)
        if len(seen) == 1:
            headers = whole.headers | {"ETag": '"old"'}
            return replace(whole, body=whole.body[:10], announce=len(whole.body), headers=headers)
        return s3_error(412, "PreconditionFailed") if "If-Match" in request.headers else whole

    s3(tmp_path, answer)
    assert [request.headers.get("If-Match") for request in seen] == [None, '"old"', None]


def test_s3_an_object_that_is_shorter_than_it_announces_is_told(tmp_path: Path) -> None:
    def answer(seen: Seen) -> Answer:
        if not seen.headers["Range"].startswith("bytes=0-"):
            return s3_error(416, "InvalidRange")
        whole = s3_object(seen)
        told = whole.headers["Content-Range"].replace(f"/{len(CONTENT)}", f"/{len(CONTENT) + 9}")
        return replace(whole, headers={**whole.headers, "Content-Range": told})

    with pytest.raises(errors.SourceUnavailable, match="is shorter than it announced"):
        s3(tmp_path, answer)


def test_an_empty_object_has_no_first_range(tmp_path: Path) -> None:
    def answer(seen: Seen) -> Answer:
        return s3_error(416, "InvalidRange") if "Range" in seen.headers else Answer()

    with FaultyServer(answer) as server:
        for uri in (f"{server.url}/x", "s3://bucket/x"):
            with pytest.raises(errors.DigestMismatch, match="holds 0 bytes"):
                run(tmp_path, uri, endpoint_url=server.url, addressing_style="path")


def test_https_ranges_are_used_where_the_server_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipway_runtime.artifact.transfer.PART_BYTES", 30_000)
    monkeypatch.setattr("slipway_runtime.artifact.transfer._PARTS_ALONE", 1)
    with FaultyServer(s3_object) as server:
        assert run(tmp_path, f"{server.url}/bucket/a/key.onnx").read_bytes() == CONTENT
        assert sorted(seen.headers["Range"] for seen in server.seen) == [
            "bytes=0-29999", "bytes=30000-59999", "bytes=60000-89999", "bytes=90000-99999",
        ]  # fmt: skip
        assert [seen.headers.get("If-Match") for seen in server.seen].count('"e"') == 3


@pytest.mark.parametrize(
    "told",
    ["bytes 5-9/100000", "bytes 0-9/*", "pages 0-9/3", "", "bytes 0-9/" + "9" * 5000],
    ids=["other place", "no total", "other unit", "none", "too long"],
)
def test_a_range_that_was_not_asked_for_is_not_taken(tmp_path: Path, told: str) -> None:
    odd = Answer(206, CONTENT[:10], headers={"Content-Range": told})
    with FaultyServer([odd, OK]) as server:
        assert run(tmp_path, f"{server.url}/x").read_bytes() == CONTENT
        assert len(server.seen) == 2


def test_a_proxy_is_used_for_s3_and_https(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(seen: Seen) -> Answer:
        return s3_object(
            Seen(seen.method, seen.path.removeprefix("http://store.invalid"), seen.headers)
        )

    with FaultyServer(answer) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        endpoint = "http://store.invalid"
        run(tmp_path / "1", f"{endpoint}/bucket/a/key.onnx")
        options = {"endpoint_url": endpoint, "addressing_style": "path"}
        run(tmp_path / "2", "s3://bucket/a/key.onnx", **options)
        assert {seen.path.partition("?")[0] for seen in proxy.seen} == {
            "http://store.invalid/bucket/a/key.onnx"
        }


def test_s3_a_role_is_taken_by_web_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    token = tmp_path / "token"
    token.write_text("projected-token")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/reader")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    role = (
        "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>"
        "<AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
        "<SessionToken>session</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>"
        "</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    )

    def answer(seen: Seen) -> Answer:
        return Answer(body=role.encode()) if seen.method == "POST" else s3_object(seen)

    with FaultyServer(answer) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", server.url)
        options = {"endpoint_url": server.url, "addressing_style": "path"}
        run(tmp_path, "s3://bucket/a/key.onnx", **options)
        signed = [seen for seen in server.seen if seen.method == "GET"]
        assert signed
        assert all("Credential=ASIAROLE/" in seen.headers["Authorization"] for seen in signed)


@pytest.mark.parametrize(
    ("style", "url"),
    [
        ("path", "http://store.invalid/bucket/a/key.onnx"),
        ("virtual", "http://bucket.store.invalid/a/key.onnx"),
    ],
)
def test_s3_the_addressing_style_is_honoured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, style: str, url: str
) -> None:
    with FaultyServer(lambda seen: s3_object(replace(seen, path="/bucket/a/key.onnx"))) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        options = {"endpoint_url": "http://store.invalid", "addressing_style": style}
        run(tmp_path, "s3://bucket/a/key.onnx", **options)
        assert {seen.path for seen in proxy.seen} == {url}


def test_s3_an_endpoint_that_refuses_connections_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(errors.SourceUnavailable, match="does not answer"):
        run(tmp_path, "s3://bucket/key", endpoint_url=f"http://127.0.0.1:{free_port()}")


def test_s3_without_credentials_says_where_to_put_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(errors.AccessDenied, match=r"storage\.secretName"):
        s3(tmp_path, s3_object)


def test_s3_an_endpoint_that_holds_a_password_is_refused_without_repeating_it(
    tmp_path: Path,
) -> None:
    with pytest.raises(errors.InvalidArguments, match="secretName") as caught:
        run(tmp_path, "s3://bucket/key", endpoint_url="http://user:hunter2@127.0.0.1:9")
    assert "hunter2" not in caught.value.message


def test_s3_a_malformed_endpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidArguments, match=r"storage\.endpoint"):
        run(tmp_path, "s3://bucket/key", endpoint_url="s3.example.com")


def test_s3_trusts_the_extra_authorities(tmp_path: Path) -> None:
    authority = trustme.CA()
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    with FaultyServer(s3_object, certificate=authority.issue_cert("127.0.0.1")) as server:
        uri, options = "s3://bucket/a/key.onnx", {"endpoint_url": server.url}
        with pytest.raises(errors.SourceUnavailable, match="caBundle"):
            run(tmp_path, uri, addressing_style="path", **options)
        assert run(tmp_path, uri, addressing_style="path", ca_bundle=bundle, **options).exists()


# ---- other clouds, by the forms in which they speak ----


def signature_of(seen: Seen, host: str, secret: str) -> str:
    """AWS Signature Version 4 of a request, worked out from what arrived, as a store does it."""
    scheme, _, fields = seen.headers["Authorization"].partition(" ")
    assert scheme == "AWS4-HMAC-SHA256"
    told = dict(field.strip().split("=", 1) for field in fields.split(","))
    _, day, region, service, ending = told["Credential"].split("/")
    headers = {name.lower(): value.strip() for name, value in seen.headers.items()}
    assert headers["host"] == host
    names = told["SignedHeaders"].split(";")
    path, _, query = seen.path.partition("?")
    canonical = "\n".join(
        [seen.method, path, query, *(f"{name}:{headers[name]}" for name in names), "",
         ";".join(names), headers["x-amz-content-sha256"]]
    )  # fmt: skip
    scope = f"{day}/{region}/{service}/{ending}"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{headers['x-amz-date']}\n{scope}\n{digest}"
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, ending):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def test_google_storage_by_its_s3_form_with_an_hmac_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server checks what Google's XML API checks: signature, scope, GET alone, no checksums."""
    key = "GOOG1EXAMPLEEXAMPLEEXAMPLE"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    wrong: list[str] = []

    def answer(seen: Seen) -> Answer:
        headers = {name.lower() for name in seen.headers}
        told = seen.headers.get("Authorization", "")
        given = told.rpartition("Signature=")[2]
        if seen.method != "GET" or f"Credential={key}/" not in told or "/auto/s3/" not in told:
            wrong.append(f"{seen.method} {told}")
        elif given != signature_of(seen, host, "top-secret-value"):
            return s3_error(403, "SignatureDoesNotMatch")
        elif "range" not in headers or "x-amz-sdk-checksum-algorithm" in headers:
            wrong.append(str(headers))
        return s3_object(seen)

    monkeypatch.setattr("slipway_runtime.artifact.transfer.PART_BYTES", 40_000)
    with FaultyServer(answer) as server:
        host = server.url.partition("://")[2]
        options = {"endpoint_url": server.url, "addressing_style": "path", "region": "auto"}
        path = run(tmp_path, "s3://bucket/a/key.onnx", **options)
        assert path.read_bytes() == CONTENT
    assert not wrong
    assert len(server.seen) > 1


SAS = "sv=2025-01-05&sr=c&sp=r&se=2099-01-01T00%3A00%3A00Z&sig=c2VjcmV0LXNpZ25hdHVyZQ%3D%3D"


def azure_blob(files: dict[str, bytes]) -> Callable[[Seen], Answer]:
    """A container that answers as Azure's blob service does; with another query, 403."""

    def answer(seen: Seen) -> Answer:
        path, _, query = seen.path.partition("?")
        headers = {"x-ms-version": "2025-01-05", "x-ms-request-id": "0", "Accept-Ranges": "bytes"}
        if query != SAS or seen.method != "GET":
            return Answer(403, b"<Error><Code>AuthenticationFailed</Code></Error>", headers=headers)
        content = files.get(path)
        if content is None:
            return Answer(404, headers=headers | {"x-ms-error-code": "BlobNotFound"})
        etag = f'"0x8D{len(content):X}"'
        if seen.headers.get("If-Match", etag) != etag:
            return Answer(412, headers=headers | {"x-ms-error-code": "ConditionNotMet"})
        first, _, last = seen.headers["Range"].removeprefix("bytes=").partition("-")
        end = min(int(last) + 1, len(content))
        headers |= {"ETag": etag, "x-ms-blob-type": "BlockBlob",
                    "Content-Range": f"bytes {first}-{end - 1}/{len(content)}"}  # fmt: skip
        return Answer(206, content[int(first) : end], headers=headers)

    return answer


def test_azure_by_https_with_a_token_that_nothing_repeats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setattr("slipway_runtime.artifact.transfer.PART_BYTES", 40_000)
    authority = trustme.CA()
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    served = azure_blob({"/models/fraud/model.onnx": CONTENT})
    with FaultyServer(served, certificate=authority.issue_cert("127.0.0.1")) as server:
        uri = f"{server.url}/models/fraud/model.onnx"
        assert run(tmp_path, f"{uri}?{SAS}", ca_bundle=bundle).read_bytes() == CONTENT
        assert len({seen.headers["If-Match"] for seen in server.seen[1:]}) == 1
        with pytest.raises(errors.ArtifactNotFound) as missing:
            run(tmp_path / "m", f"{server.url}/models/none.onnx?{SAS}", ca_bundle=bundle)
        with pytest.raises(errors.AccessDenied) as denied:
            run(tmp_path / "d", f"{uri}?{SAS}expired", ca_bundle=bundle)
    for told in (caplog.text, missing.value.message, denied.value.message):
        assert "sig=" not in told
        assert "c2VjcmV0" not in told
    assert f"{uri}?…" in caplog.text


def test_a_package_in_azure_is_fetched_with_the_token_of_its_container(tmp_path: Path) -> None:
    folder = tmp_path / "package"
    digest = packages.write(
        folder,
        {"model.onnx": ("model", onnx_models.linear()), "w.bin": ("externalData", b"\1" * 99)},
    )
    files = {f"/models/fraud/{path.name}": path.read_bytes() for path in folder.iterdir()}
    authority = trustme.CA()
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    with FaultyServer(azure_blob(files), certificate=authority.issue_cert("127.0.0.1")) as server:
        values = FetchSettings.model_validate({"ca_bundle": bundle})
        path = fetch(
            open_source(f"{server.url}/models/fraud/slipway.json?{SAS}", values),
            Digest.parse(digest),
            Cache(tmp_path / "cache"),
            max_bytes=None,
            retry=Retry(attempts=1),
        )
        assert {seen.path.partition("?")[0] for seen in server.seen} == set(files)
    assert (path.parent / "w.bin").read_bytes() == b"\1" * 99


def test_a_file_beside_a_url_without_a_path_is_at_the_same_host() -> None:
    source = open_source("https://store.example?sig=s", FetchSettings())
    assert source.beside("other.example/w.bin").description == (
        "https://store.example/other.example/w.bin?…"
    )

"""`slipway-runtime fetch` as a pod runs it: exit codes, termination messages, logs."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from runtime_kit import onnx_models
from runtime_kit.faulty_http import Answer, FaultyServer, Seen
from runtime_kit.process import PROGRAM, Server, digest_of, environment, run, seed

CONTENT = b"model" * 1000
DIGEST = digest_of(CONTENT)
OTHER = digest_of(b"other")


def s3_refusal(status: int, code: str) -> Answer:
    return Answer(status, f"<Error><Code>{code}</Code></Error>".encode())


def test_a_file_is_fetched_and_then_found_in_the_cache(tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(CONTENT)
    arguments = ("fetch", "--uri", f"file://{source}", "--digest", DIGEST)
    first = run(tmp_path, *arguments)
    assert (first.code, first.termination) == (0, {})
    cached = tmp_path / "cache" / "sha256" / DIGEST.removeprefix("sha256:") / "model.onnx"
    assert cached.read_bytes() == CONTENT
    source.unlink()
    second = run(tmp_path, *arguments)
    assert second.code == 0
    assert "nothing to download" in second.log


def test_the_metrics_tell_what_the_last_fetch_took(tmp_path: Path) -> None:
    content = onnx_models.linear()
    source = tmp_path / "model.onnx"
    source.write_bytes(content)
    digest = digest_of(content)
    told: list[tuple[float, float]] = []
    for _ in range(2):
        run(tmp_path, "fetch", "--uri", f"file://{source}", "--digest", digest)
        with Server.of_cached(tmp_path, digest) as server:
            server.start().wait_until_ready()
            lines = server.get("/metrics").body.decode().splitlines()
        values = {line.partition("{")[0]: line.rpartition(" ")[2] for line in lines}
        told.append((float(values["slipway_fetch_bytes"]), float(values["slipway_fetch_seconds"])))
    assert [size for size, _ in told] == [len(content), 0]
    assert all(seconds > 0 for _, seconds in told)


def test_a_verified_cache_needs_no_network(tmp_path: Path) -> None:
    seed(tmp_path / "cache", CONTENT)
    with FaultyServer([Answer(500)]) as server:
        ended = run(tmp_path, "fetch", "--uri", f"{server.url}/x", "--digest", DIGEST)
        assert server.seen == []
    assert ended.code == 0


def http(answer: Answer) -> Callable[[str], tuple[Answer, str]]:
    return lambda url: (answer, f"{url}/model.onnx")


def s3(answer: Answer) -> Callable[[str], tuple[Answer, str]]:
    return lambda _url: (answer, "s3://bucket/key")


@pytest.mark.parametrize(
    ("source", "code", "reason"),
    [
        (http(Answer(body=b"other")), 20, "DigestMismatch"),
        (http(Answer(body=b"x" * 6000)), 24, "TooLarge"),
        (http(Answer(404)), 30, "ArtifactNotFound"),
        (http(Answer(403)), 31, "AccessDenied"),
        (http(Answer(500)), 32, "SourceUnavailable"),
        (s3(s3_refusal(404, "NoSuchKey")), 30, "ArtifactNotFound"),
        (s3(s3_refusal(404, "NoSuchBucket")), 30, "ArtifactNotFound"),
        (s3(s3_refusal(403, "AccessDenied")), 31, "AccessDenied"),
        (lambda _url: (Answer(), "ftp://x/y"), 2, "InvalidArguments"),
    ],
)
def test_each_end_has_its_code_and_message(
    tmp_path: Path, source: Callable[[str], tuple[Answer, str]], code: int, reason: str
) -> None:
    chosen: list[Answer] = []

    def answer(_seen: Seen) -> Answer:
        return chosen[0]

    with FaultyServer(answer) as server:
        first, uri = source(server.url)
        chosen.append(first)
        extra = {
            "AWS_ENDPOINT_URL": server.url,
            "AWS_ACCESS_KEY_ID": "AKIDHIDDEN",
            "AWS_SECRET_ACCESS_KEY": "secret-hidden",
            "SLIPWAY_S3_ADDRESSING_STYLE": "path",
            "SLIPWAY_FETCH_ATTEMPTS": "1",
            "SLIPWAY_LOG_LEVEL": "DEBUG",
        }
        ended = (
            run(
                tmp_path,
                *("fetch", "--uri", f"{uri}?X-Amz-Signature=presigned-hidden"),
                *("--digest", DIGEST, "--max-bytes", "5500"),
                extra=extra,
            )
            if uri.startswith("http")
            else run(tmp_path, "fetch", "--uri", uri, "--digest", DIGEST, extra=extra)
        )
    assert (ended.code, ended.termination["reason"]) == (code, reason)
    said = ended.log + json.dumps(ended.termination)
    assert "hidden" not in said.lower()


def test_a_mismatch_says_what_was_expected_and_what_came(tmp_path: Path) -> None:
    with FaultyServer([Answer(body=b"other")]) as server:
        ended = run(tmp_path, "fetch", "--uri", f"{server.url}/x", "--digest", DIGEST)
    assert ended.termination["expected"] == DIGEST
    assert ended.termination["actual"] == OTHER
    assert ended.termination["size"] == 5


@pytest.mark.parametrize(
    ("arguments", "extra", "message"),
    [
        (["fetch", "--digest", DIGEST], {}, "--uri"),
        (["fetch", "--uri", "file:///x", "--digest", "sha256:abc"], {}, "64"),
        (["fetch", "--uri", "file:///x", "--digest", DIGEST, "--max-bytes", "0"], {}, "max-bytes"),
        (["serve", "--digest", DIGEST], {}, "--name"),
        (["serve", "--digest", DIGEST, "--name", "m"], {"SLIPWAY_PORT": "x"}, "SLIPWAY_PORT"),
        (["unknown"], {}, "unknown"),
    ],
)
def test_wrong_arguments_are_named(
    tmp_path: Path, arguments: list[str], extra: dict[str, str], message: str
) -> None:
    ended = run(tmp_path, *arguments, extra=extra)
    assert (ended.code, ended.termination["reason"]) == (2, "InvalidArguments")
    assert message in ended.termination["message"]


def test_logs_are_json_lines(tmp_path: Path) -> None:
    ended = run(tmp_path, "fetch", "--uri", "file:///missing", "--digest", DIGEST)
    lines = [json.loads(line) for line in ended.log.splitlines()]
    assert {"time", "level", "logger", "message"} <= set(lines[-1])
    assert lines[-1]["level"] == "error"
    assert "/missing" in lines[-1]["message"]


def test_logs_may_be_text(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        *("fetch", "--uri", "file:///missing", "--digest", DIGEST),
        extra={"SLIPWAY_LOG_FORMAT": "text"},
    )
    assert " ERROR   ArtifactNotFound: " in ended.log


def test_sigterm_ends_a_fetch_at_once_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    with FaultyServer([Answer(body=CONTENT[:100], announce=len(CONTENT), delay=30)]) as server:
        process = subprocess.Popen(
            [PROGRAM, "fetch", "--uri", f"{server.url}/x", "--digest", DIGEST],
            env=environment(tmp_path),
            stderr=subprocess.PIPE,
        )
        assert process.stderr
        while b"fetching" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 128 + signal.SIGTERM
        process.stderr.close()
    source = tmp_path / "model.onnx"
    source.write_bytes(CONTENT)
    assert run(tmp_path, "fetch", "--uri", f"file://{source}", "--digest", DIGEST).code == 0
    assert list((tmp_path / "cache" / "tmp").iterdir()) == []


def test_a_fetch_that_hangs_is_ended_by_its_deadline(tmp_path: Path) -> None:
    with FaultyServer([Answer(delay=30)]) as server:
        ended = run(
            tmp_path,
            *("fetch", "--uri", f"{server.url}/x", "--digest", DIGEST),
            extra={"SLIPWAY_FETCH_DEADLINE_SECONDS": "0.5"},
        )
    assert (ended.code, ended.termination["reason"]) == (32, "SourceUnavailable")

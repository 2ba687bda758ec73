"""`slipway push` and `slipway verify` against a real S3 server."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.exceptions as aws
import numpy as np
import pytest
from cli_kit import models
from cli_kit.models import digest_of
from cli_kit.run import PROGRAM, environment, process, slipway
from runtime_kit.process import Server
from runtime_kit.process import run as run_runtime

from slipway.errors import Conflict, Differs
from slipway.storage.client import Location, Settings, connect
from slipway.storage.upload import upload
from slipway_dev.s3 import S3Server

Keys = Callable[[str], list[str]]

pytestmark = pytest.mark.usefixtures("storage")


@pytest.fixture
def linear(folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(models.linear())
    return path


def a_large_file(folder: Path, mebibytes: int, seed: int = 1) -> tuple[Path, str]:
    content = random.Random(seed).randbytes(mebibytes << 20)
    path = folder / f"{mebibytes}-{seed}.bin"
    path.write_bytes(content)
    return path, digest_of(content)


class Spy:
    """The real client; counts calls, and lets some of them fail."""

    def __init__(self, client: Any, **failing: Callable[[int, dict[str, Any]], Exception | None]):
        self._client = client
        self._failing = failing
        self._lock = threading.Lock()
        self.calls: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._client, name)
        if not callable(real):
            return real

        def call(**parameters: Any) -> Any:
            with self._lock:
                self.calls[name] = count = self.calls.get(name, 0) + 1
            error = self._failing.get(name, lambda *_: None)(count, parameters)
            if error is not None:
                raise error
            return real(**parameters)

        return call if name != "get_paginator" else real


def refusal(code: str, status: int) -> aws.ClientError:
    told: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return aws.ClientError(told, "PutObject")


def nothing(_count: int) -> None:
    pass


# ---- a bare file ----


def test_a_bare_file_is_pushed_under_its_digest_and_the_runtime_fetches_it(
    linear: Path, prefix: str, storage: dict[str, str], folder: Path
) -> None:
    ended = slipway("push", linear, "--to", prefix, "--json")
    assert ended.code == 0
    digest = digest_of(linear.read_bytes())
    hexadecimal = digest.removeprefix("sha256:")
    assert ended.json["digest"] == digest
    assert ended.json["uri"] == f"{prefix}/sha256/{hexadecimal}/model.onnx"
    arguments = ("fetch", "--uri", ended.json["uri"], "--digest", digest)
    fetched = run_runtime(folder, *arguments, extra=storage)
    assert (fetched.code, fetched.termination) == (0, {})


def test_uri_and_digest_are_printed_for_a_person(linear: Path, prefix: str) -> None:
    ended = slipway("push", linear, "--to", prefix)
    assert re.search(r"^uri +s3://models/.*model\.onnx$", ended.out, re.MULTILINE)
    assert re.search(r"^digest +sha256:[0-9a-f]{64}$", ended.out, re.MULTILINE)
    assert ended.err == ""


def test_a_person_at_a_terminal_sees_how_far_the_upload_is(
    folder: Path, prefix: str, storage: dict[str, str]
) -> None:
    path = folder / "model.onnx"
    path.write_bytes(models.build([], [], [models.tensor("w", [1 << 23])], [
        models.constant("w", np.random.default_rng(0).random(1 << 23))
    ]))  # fmt: skip
    # script gives the program a terminal, and prints what it shows there.
    done = subprocess.run(
        ["script", "--quiet", "--return", "--command",
         f"{PROGRAM} push {path} --to {prefix}", "/dev/null"],
        env=environment(storage | {"TERM": "xterm-256color", "COLUMNS": "120"}),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert re.search(r"hashing model\.onnx .*MiB", done.stdout)
    assert re.search(r"pushing .*/32\.0 MiB", done.stdout)
    assert "uploaded: s3://models/" in done.stdout


def test_what_is_there_is_not_sent_again(linear: Path, prefix: str) -> None:
    results = [
        slipway("push", linear, "--to", prefix, "--json").json["objects"][0]["result"]
        for _ in range(2)
    ]
    assert results == ["uploaded", "already there"]


def test_other_content_under_one_key_is_never_overwritten(
    linear: Path, folder: Path, prefix: str, client: Any
) -> None:
    key = prefix.removeprefix("s3://models/") + "/stable.onnx"
    assert slipway("push", linear, "--to", prefix, "--key", key).code == 0
    other = folder / "other.onnx"
    other.write_bytes(models.linear(bias=7))
    ended = slipway("push", other, "--to", prefix, "--key", key)
    assert ended.code == 6
    assert "nothing was overwritten" in ended.err
    assert client.get_object(Bucket="models", Key=key)["Body"].read() == linear.read_bytes()


def test_a_file_whose_external_data_would_be_lost_is_refused(folder: Path, prefix: str) -> None:
    path = external(folder)
    ended = slipway("push", path, "--to", prefix)
    assert ended.code == 2
    assert f"slipway pack {path}" in ended.err


# ---- a package ----


def external(folder: Path) -> Path:
    return models.with_external_data(folder, rows=1024, columns=4352)


@pytest.fixture
def package(folder: Path) -> Path:
    assert slipway("pack", external(folder), "--out", "p").code == 0
    return folder / "p"


def test_a_package_is_pushed_with_its_manifest_last_and_verifies(
    package: Path, prefix: str, keys: Keys, client: Any
) -> None:
    told = slipway("push", package, "--to", prefix, "--json").json
    assert told["objects"][-1]["uri"] == told["uri"]
    assert told["uri"].endswith("/slipway.json")
    assert [key.rpartition("/")[2] for key in keys(prefix)] == [
        "golden.json", "model.onnx", "slipway.json", "w.bin",
    ]  # fmt: skip
    assert slipway("verify", told["uri"]).code == 0
    broken = told["uri"].removeprefix("s3://models/").replace("slipway.json", "w.bin")
    client.put_object(Bucket="models", Key=broken, Body=b"other")
    ended = slipway("verify", told["uri"], "--json")
    assert ended.code == 4
    assert [f["path"] for f in ended.json["files"] if f["problem"]] == ["w.bin"]


def test_a_package_is_fetched_with_get_object_alone_and_served(
    package: Path, prefix: str, server: S3Server, storage: dict[str, str], folder: Path
) -> None:
    told = slipway("push", package, "--to", prefix, "--json").json
    reader = server.create_user("package-reader", "package-reader-secret")
    server.allow_get("models", reader.access)
    keys = {"AWS_ACCESS_KEY_ID": reader.access, "AWS_SECRET_ACCESS_KEY": reader.secret}
    arguments = ("fetch", "--uri", told["uri"], "--digest", told["digest"])
    fetched = run_runtime(folder, *arguments, extra=storage | keys)
    assert (fetched.code, fetched.termination) == (0, {}), fetched.log
    with Server.of_cached(folder, told["digest"]) as served:
        served.start().wait_until_ready()
        (sample, *_) = json.loads((package / "golden.json").read_text())["samples"]
        answer = served.post("/v2/models/m/infer", {"inputs": sample["inputs"]}).json
        (wanted,), (got,) = sample["outputs"], answer["outputs"]
        assert (got["name"], got["shape"]) == (wanted["name"], wanted["shape"])
        np.testing.assert_allclose(got["data"], wanted["data"], rtol=1e-3, atol=1e-5)


# `slipway push`, killed at one of its requests: before it is sent, or while it is on its way.
KILLED = """
import os, signal, sys, threading
from slipway.cli import main
from slipway.commands import pushing

point, after_seconds = int(sys.argv[1]), float(sys.argv[2])
lock, connect, count = threading.Lock(), pushing.connect, 0

def before_send(**_):
    global count
    with lock:
        count += 1
        if count != point:
            return
        if not after_seconds:
            os.kill(os.getpid(), signal.SIGKILL)
    threading.Timer(after_seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()

def watched(settings):
    client = connect(settings)
    client.meta.events.register("before-send.s3", before_send)
    return client

pushing.connect = watched
main(sys.argv[3:])
"""


def killed(point: int, after_seconds: float, package: Path, place: str, more: Any) -> bool:
    """Push and be killed at a request; False where there are fewer."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(point), str(after_seconds),
         "push", str(package), "--to", place],
        env=environment(more), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


def require_no_half_package_and_a_whole_one_when_run_again(
    package: Path, place: str, keys: Keys
) -> None:
    for entry in (key for key in keys(place) if key.endswith("slipway.json")):
        assert slipway("verify", f"{place}/{entry}").code == 0
    told = slipway("push", package, "--to", place, "--json")
    assert told.code == 0
    assert len(keys(place)) == 4
    assert slipway("verify", told.json["uri"]).code == 0


def test_a_push_killed_before_any_of_its_requests_is_never_half_visible_and_completes(
    package: Path, prefix: str, keys: Keys, storage: dict[str, str]
) -> None:
    point = 1
    while killed(point, 0, package, f"{prefix}-{point}", storage):
        require_no_half_package_and_a_whole_one_when_run_again(package, f"{prefix}-{point}", keys)
        point += 1
    assert point > 10


@pytest.mark.parametrize("point", range(3, 7), ids=["begin", "part", "another part", "complete"])
def test_a_push_killed_while_it_sends_is_never_half_visible_and_completes(
    package: Path, prefix: str, keys: Keys, storage: dict[str, str], point: int
) -> None:
    assert killed(point, 0.005, package, prefix, storage)
    require_no_half_package_and_a_whole_one_when_run_again(package, prefix, keys)


def test_a_package_that_was_changed_after_packing_is_not_pushed(
    package: Path, prefix: str, keys: Keys
) -> None:
    with (package / "w.bin").open("r+b") as file:
        file.write(b"changed")
    ended = slipway("push", package, "--to", prefix)
    assert ended.code == 4
    assert "w.bin is sha256:" in ended.err
    assert keys(prefix) == []


# ---- parts ----


def test_an_interrupted_upload_goes_on_with_the_parts_that_are_there(
    folder: Path, prefix: str, client: Any
) -> None:
    path, digest = a_large_file(folder, 40)
    place = Location.parse(f"{prefix}/sha256/{64 * 'a'}/large.bin")

    def third(count: int, _: object) -> Exception | None:
        return ConnectionResetError("cut") if count > 3 else None

    with pytest.raises(ConnectionResetError):
        upload(Spy(client, upload_part=third), path, place, digest, nothing, part_bytes=5 << 20)
    again = Spy(client)
    assert upload(again, path, place, digest, nothing, part_bytes=5 << 20) == "uploaded"
    assert again.calls["upload_part"] == 8 - 3
    assert "create_multipart_upload" not in again.calls
    body = client.get_object(Bucket="models", Key=place.key)["Body"].read()
    assert digest_of(body) == digest


def test_an_upload_that_was_begun_for_another_file_is_not_continued(
    folder: Path, prefix: str, client: Any
) -> None:
    old, old_digest = a_large_file(folder, 20, seed=1)
    new, new_digest = a_large_file(folder, 20, seed=2)
    place = Location.parse(f"{prefix}/large.bin")

    def second(count: int, _: object) -> Exception | None:
        return ConnectionResetError("cut") if count > 2 else None

    with pytest.raises(ConnectionResetError):
        upload(Spy(client, upload_part=second), old, place, old_digest, nothing, part_bytes=5 << 20)
    upload(client, new, place, new_digest, nothing, part_bytes=5 << 20)
    assert digest_of(client.get_object(Bucket="models", Key=place.key)["Body"].read()) == new_digest
    with pytest.raises(Conflict):
        upload(client, old, place, old_digest, nothing, part_bytes=5 << 20)


def test_parts_that_were_damaged_are_sent_again(folder: Path, prefix: str, client: Any) -> None:
    path, digest = a_large_file(folder, 20)
    place = Location.parse(f"{prefix}/sha256/{64 * 'b'}/large.bin")
    target = {"Bucket": "models", "Key": place.key}
    begun = client.create_multipart_upload(**target, Metadata={"slipway-digest": digest})
    damaged = b"x" * (5 << 20)
    client.upload_part(**target, UploadId=begun["UploadId"], PartNumber=2, Body=damaged)
    upload(client, path, place, digest, nothing, part_bytes=5 << 20)
    assert digest_of(client.get_object(**target)["Body"].read()) == digest


def test_two_pushes_of_the_same_at_the_same_time_both_succeed(
    folder: Path, prefix: str, client: Any
) -> None:
    path, digest = a_large_file(folder, 20)
    place = Location.parse(f"{prefix}/sha256/{64 * 'c'}/large.bin")

    def other_first(_count: int, _: object) -> Exception:
        upload(client, path, place, digest, nothing, part_bytes=5 << 20)
        return refusal("NoSuchUpload", 404)

    spy = Spy(client, complete_multipart_upload=other_first)
    assert upload(spy, path, place, digest, nothing, part_bytes=5 << 20) == "already there"
    assert digest_of(client.get_object(Bucket="models", Key=place.key)["Body"].read()) == digest


def test_whoever_comes_second_overwrites_nothing(folder: Path, prefix: str, client: Any) -> None:
    path, digest = a_large_file(folder, 20)
    place = Location.parse(f"{prefix}/large.bin")

    def meanwhile(_count: int, _: object) -> None:
        client.put_object(Bucket="models", Key=place.key, Body=b"first")

    with pytest.raises(Conflict):
        upload(
            Spy(client, complete_multipart_upload=meanwhile),
            path, place, digest, nothing, part_bytes=5 << 20,
        )  # fmt: skip
    assert client.get_object(Bucket="models", Key=place.key)["Body"].read() == b"first"
    assert not client.list_multipart_uploads(Bucket="models", Prefix=place.key).get("Uploads")


def test_a_server_without_conditional_writes_is_written_to_after_a_check(
    linear: Path, prefix: str, client: Any
) -> None:
    def unknown(_count: int, parameters: dict[str, Any]) -> Exception | None:
        return refusal("NotImplemented", 501) if "IfNoneMatch" in parameters else None

    place = Location.parse(f"{prefix}/m.onnx")
    spy = Spy(client, put_object=unknown)
    assert upload(spy, linear, place, digest_of(linear.read_bytes()), nothing) == "uploaded"
    assert client.get_object(Bucket="models", Key=place.key)["Body"].read() == linear.read_bytes()


def test_a_file_that_changes_meanwhile_is_not_published(
    folder: Path, prefix: str, client: Any, keys: Keys
) -> None:
    path, digest = a_large_file(folder, 20)

    def grow(count: int, _: object) -> None:
        if count == 1:
            path.write_bytes(path.read_bytes() + b"more")

    with pytest.raises(Differs):
        upload(
            Spy(client, upload_part=grow),
            path, Location.parse(f"{prefix}/l"), digest, nothing, part_bytes=5 << 20,
        )  # fmt: skip
    assert keys(prefix) == []


def test_an_object_of_unknown_origin_is_read_before_it_counts_as_the_same(
    linear: Path, prefix: str, client: Any
) -> None:
    place = Location.parse(f"{prefix}/m.onnx")
    client.put_object(Bucket="models", Key=place.key, Body=linear.read_bytes())
    digest = digest_of(linear.read_bytes())
    assert upload(client, linear, place, digest, nothing) == "already there"


# ---- what can be wrong ----


def test_a_user_without_rights_is_told_which_ones_are_missing(
    linear: Path, prefix: str, server: S3Server, storage: dict[str, str]
) -> None:
    user = server.create_user("nobody", "nobody-secret")
    keys = {"AWS_ACCESS_KEY_ID": user.access, "AWS_SECRET_ACCESS_KEY": user.secret}
    ended = process("push", linear, "--to", prefix, extra=storage | keys)
    assert ended.code == 7
    assert "s3:PutObject" in ended.err
    assert user.secret not in ended.err


def test_a_bucket_that_is_not_there_is_named(linear: Path) -> None:
    ended = slipway("push", linear, "--to", "s3://absent-bucket/x")
    assert ended.code == 5
    assert "absent-bucket" in ended.err


def test_a_server_that_does_not_answer_is_unavailable(linear: Path, prefix: str) -> None:
    ended = slipway("push", linear, "--to", prefix, "--endpoint", "http://127.0.0.1:9")
    assert ended.code == 8
    assert "--endpoint" in ended.err


def test_missing_credentials_are_named(linear: Path, prefix: str, storage: dict[str, str]) -> None:
    bare = {name: value for name, value in storage.items() if "KEY" not in name}
    bare["HOME"] = "/nonexistent"
    ended = process("push", linear, "--to", prefix, extra=bare)
    assert ended.code == 7
    assert "AWS_ACCESS_KEY_ID" in ended.err


def test_the_client_is_made_from_the_settings() -> None:
    made = connect(Settings(endpoint="http://127.0.0.1:1", region="eu-west-1"))
    assert made.meta.region_name == "eu-west-1"

"""A real S3 server, one for the session; every test runs in an empty folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slipway_dev.s3 import S3Server


@pytest.fixture(scope="session")
def server() -> Iterator[S3Server]:
    with S3Server("packaging") as running:
        running.root_client().create_bucket(Bucket="models")
        yield running


@pytest.fixture
def client(server: S3Server) -> Any:
    return server.root_client()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith(("AWS_", "SLIPWAY_")) and name not in ("SLIPWAY_CACHE", "SLIPWAY_STATE"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    return tmp_path


@pytest.fixture
def storage(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The variables that S3 clients read, set here and returned for processes."""
    variables = {
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": server.root.access,
        "AWS_SECRET_ACCESS_KEY": server.root.secret,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "*",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """A place of this test's own."""
    return f"s3://models/{request.node.name}"


@pytest.fixture
def keys(client: Any) -> Callable[[str], list[str]]:
    """What a reader sees below a place."""

    def listed(uri: str) -> list[str]:
        below = uri.removeprefix("s3://models/")
        found = client.list_objects_v2(Bucket="models", Prefix=below + "/")
        return sorted(item["Key"].removeprefix(below + "/") for item in found.get("Contents", []))

    return listed

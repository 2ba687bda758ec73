"""What each command may import: start-up time and the absence of what a command has no use for."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = [
    *("boto3", "botocore", "fastapi", "grpc", "google.protobuf", "opentelemetry"),
    *("numpy", "onnxruntime", "prometheus_client", "starlette"),
]

LOAD = """
import slipway_runtime.server.serve, slipway_runtime.server.loader, slipway_runtime.server.routes
import slipway_runtime.inference.model, slipway_runtime.inference.executor
"""
FETCH = """
from slipway_runtime.artifact.fetch import fetch
from slipway_runtime.artifact.sources import open_source
from slipway_runtime.settings import FetchSettings
open_source("{uri}", FetchSettings())
"""


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import slipway_runtime.cli", set[str]()),
        ("import slipway_runtime.server.serve", set[str]()),
        ("import slipway_runtime.server.grpc.server", {"google.protobuf"}),
        (LOAD, {"numpy", "onnxruntime"}),
        (FETCH.format(uri="https://host/x"), set[str]()),
        (FETCH.format(uri="file:///x"), set[str]()),
        (FETCH.format(uri="s3://bucket/key"), {"boto3", "botocore"}),
    ],
)
def test_nothing_heavy_is_imported_without_need(code: str, allowed: set[str]) -> None:
    script = f"{code}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1])) & set(HEAVY)
    assert loaded == allowed


def test_telemetry_is_off_before_onnxruntime_is_imported() -> None:
    script = """
import builtins, os
os.environ.pop("ORT_DISABLE_TELEMETRY", None)
real = builtins.__import__
def spy(name, *args, **kwargs):
    if name == "onnxruntime":
        assert os.environ.get("ORT_DISABLE_TELEMETRY") == "1"
        print("checked")
    return real(name, *args, **kwargs)
builtins.__import__ = spy
import slipway_runtime.inference.session
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "checked" in done.stdout

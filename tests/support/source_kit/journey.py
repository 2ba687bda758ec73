"""One source's way into a cluster: exported, validated, packed, pushed, applied, and asked."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cli_kit.run import PROGRAM
from requests_to_model import send

from slipway_dev.s3 import REGION
from slipway_dev.testbed import BUCKET, STORAGE_SECRET, Testbed, is_ready
from source_kit.frameworks import program
from source_kit.kinds import COLUMNS, Kind

ATOL, RTOL = 1e-5, 1e-3
"""The tolerances of ``slipway export``."""


@dataclass(frozen=True)
class Arrived:
    """What came of it: the largest differences of a source's numbers.

    ``exported`` is the largest absolute one that ``slipway export`` found, None where nothing was
    exported; ``absolute`` and ``relative`` are those of the answers to what the framework computes.
    ``close`` says that all answers hold the tolerances of ``slipway export``.
    """

    kind: str
    exporter: str
    digest: str
    exported: float | None
    absolute: float
    relative: float
    close: bool


def travel(kind: Kind, name: str, folder: Path, testbed: Testbed, namespace: str) -> Arrived:
    """Take a source all the way; every step is the command that a person types."""
    folder.mkdir(parents=True)
    model, package, pushed = folder / "model.onnx", folder / "package", folder / "pushed.json"
    flags, about = kind.make(folder)
    told: Any = {"exporter": "-"}
    if flags:
        told = _slipway(
            "export", *flags, "--out", model, program_of=program("slipway"), cwd=kind.cwd,
            variables=dict(kind.variables),
        )  # fmt: skip
    else:
        model.write_bytes((folder / "source.onnx").read_bytes())
    ranges = ("--range", "1:1000") if kind.by_column else ()
    _slipway("validate", model, *ranges)
    _slipway("pack", model, "--name", name, "--out", package, *ranges)
    variables = storage(testbed)
    pushed.write_text(
        json.dumps(_slipway("push", package, "--to", f"s3://{BUCKET}/{name}", variables=variables))
    )
    digest = str(json.loads(pushed.read_text())["digest"])
    _slipway("verify", json.loads(pushed.read_text())["uri"], variables=variables)
    _slipway(
        "manifest", package, "--pushed", pushed, "--namespace", namespace, "--secret",
        STORAGE_SECRET, "--endpoint", testbed.s3.endpoint, "--region", REGION,
        "--addressing-style", "path", "--out", folder / "model.yaml",
    )  # fmt: skip
    testbed.cluster.kubectl("apply", "-f", str(folder / "model.yaml"))
    truth = kind.answers_of_the_framework(folder, about).astype(np.float64)
    testbed.wait_for(namespace, name, f"{kind.name} is ready", is_ready)
    answers = _asked(kind, testbed, namespace, name, digest)
    truth = truth.reshape(answers.shape)
    apart = np.abs(answers - truth)
    found = told.get("validation") or {"worst": []}
    return Arrived(
        kind.name,
        str(told["exporter"]),
        digest,
        max((float(item["maxAbsolute"]) for item in found["worst"]), default=None),
        float(apart.max()),
        float((apart / np.maximum(np.abs(truth), ATOL)).max()),
        bool((apart <= ATOL + RTOL * np.abs(truth)).all()),
    )


def storage(testbed: Testbed) -> dict[str, str]:
    """The variables by which S3 clients reach the testbed's storage, with all rights."""
    keys = testbed.s3.root
    return {
        "AWS_ENDPOINT_URL": testbed.s3.endpoint,
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": keys.access,
        "AWS_SECRET_ACCESS_KEY": keys.secret,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "*",
    }


def _asked(
    kind: Kind, testbed: Testbed, namespace: str, name: str, digest: str
) -> np.ndarray[Any, Any]:
    """Ask for all rows, through the Service."""
    rows = kind.rows.tolist()
    if kind.by_column:
        path, body = "/invocations", {"dataframe_split": {"columns": COLUMNS, "data": rows}}
    else:
        path, body = "/predict", rows
    answer = send(testbed, namespace, name, "POST", path, body)
    assert answer.status == 200, answer.text
    assert answer.headers["slipway-model-digest"] == digest
    told = answer.json.get("predictions", answer.json)
    return np.array(told[kind.output] if isinstance(told, dict) else told, np.float64)


def _slipway(
    *arguments: Any,
    program_of: Path = PROGRAM,
    cwd: Path | None = None,
    variables: dict[str, str] | None = None,
) -> Any:
    done = subprocess.run(
        [program_of, *map(str, arguments), "--json"],
        env=os.environ | (variables or {}), cwd=cwd,
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, f"slipway {arguments[0]}: {done.stdout}{done.stderr}"
    return json.loads(done.stdout)

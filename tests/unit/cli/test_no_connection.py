"""Commands that are told of no server contact none: no telemetry, no updates, no schema fetched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cli_kit
import numpy as np
from cli_kit import models
from cli_kit.run import environment

WATCHED = """
import json, subprocess, sys
sys.path.insert(0, sys.argv[1])
from runtime_kit.network_watch import counters, reach_out, since
from cli_kit.run import slipway

for command in ("link set lo up", "route add default dev lo"):
    subprocess.run(["ip", *command.split()], check=True)
before = counters()
reach_out()
control, before = since(before), counters()
told = {" ".join(line[:2]): slipway(*line).code for line in json.loads(sys.argv[2])}
print(json.dumps({"control": control, "codes": told, "all": since(before)}))
"""
DIGEST = "sha256:" + 64 * "0"
COMMANDS = [
    ["--help"],
    ["inspect", "model.onnx"],
    ["validate", "model.onnx"],
    ["pack", "model.onnx", "--out", "p"],
    ["verify", "p"],
    ["export", "logged", "--out", "copy.onnx"],
    ["quantize", "wide.onnx", "--min-speed-up", "0", "--rounds", "10", "--html", "r.html"],
    ["manifest", "model.onnx", "--uri", "s3://b/m.onnx", "--name", "m", "--out", "m.yaml"],
    ["manifest", "--set-digest", "m.yaml", "--digest", DIGEST],
    ["compose", "model.onnx", "--out", "compose.yaml"],
]


def test_commands_on_files_open_no_connection_and_send_no_datagram(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(models.linear())
    (folder / "wide.onnx").write_bytes(
        models.build(
            [models.helper.make_node("MatMul", ["x", "w"], ["y"])],
            [models.tensor("x", ["n", 256])],
            [models.tensor("y", ["n", 256])],
            [models.constant("w", np.random.default_rng(0).normal(size=(256, 256)))],
        )
    )
    (folder / "logged").mkdir()
    (folder / "logged" / "MLmodel").write_text("flavors:\n  onnx: {data: model.onnx}\n")
    (folder / "logged" / "model.onnx").write_bytes(models.linear())
    own = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    variables = environment()
    # It is slipway that has to switch telemetry off.
    variables.pop("ORT_DISABLE_TELEMETRY", None)
    done = subprocess.run(
        [*own, sys.executable, "-c", WATCHED, str(Path(cli_kit.__path__[0]).parent),
         json.dumps(COMMANDS)],
        env=variables, cwd=folder, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    # What leaves is counted at all.
    assert seen["control"] == [1, 1]
    assert set(seen["codes"].values()) == {0}, seen["codes"]
    assert seen["all"] == [0, 0]

"""Ctrl-C at any moment leaves each file as it was, or complete: never half, and nothing beside it.

A hook of the interpreter sees every file that is opened for writing, renamed or made. Each command
is run again and again, and interrupted at the first of these events, at the second, and so on.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_kit import models
from cli_kit.run import environment

INTERRUPTED = """
import contextlib, hashlib, io, json, os, shutil, signal, sys, tempfile
from pathlib import Path
from slipway.cli import run

point, seen, folder = 0, 0, Path(sys.argv[1])
arguments, temporary = json.loads(sys.argv[2]), tempfile.gettempdir()

def watch(event, given):
    global seen
    if event == "open":
        path, mode, flags = given
        if not isinstance(path, str) or not flags & (os.O_WRONLY | os.O_RDWR):
            return
        if not os.path.abspath(path).startswith((str(folder), temporary)):
            return
    elif event not in ("os.rename", "os.mkdir", "os.truncate", "os.chmod", "shutil.move"):
        return
    held_back = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    if point and not held_back:
        seen += 1
        if seen == point:
            raise KeyboardInterrupt

def state():
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*")) if path.is_file()
    }

def once(at):
    global point, seen
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        point, seen = at, 0
        code = run(arguments)
        point = 0
    return code, seen, err.getvalue()

original = Path(sys.argv[3])
def renew():
    shutil.rmtree(folder)
    shutil.copytree(original, folder)

os.chdir(folder)
run(arguments)  # Everything is imported, and caches are written.
renew(); os.chdir(folder)
sys.addaudithook(watch)
told = []
at = 0
while True:
    at += 1
    renew(); os.chdir(folder)
    code, reached, err = once(at)
    after = state()
    told.append({"code": code, "files": after, "err": err})
    if reached < at:
        break
print(json.dumps(told))
"""


COMMANDS = {
        "pack": ["pack", "model.onnx", "--out", "made"],
        "validate": ["validate", "model.onnx", "--save-samples", "made.npz", "--batch-sizes", "1"],
        "manifest": ["manifest", "model.onnx", "--uri", "s3://b/m.onnx", "--name", "m",
                     "--no-resources", "--out", "made.yaml"],
        "set-digest": ["manifest", "--set-digest", "a.yaml", "--set-digest", "b.yaml", "--digest",
                       "sha256:" + 64 * "1"],
        "quantize": ["quantize", "wide.onnx", "--out", "made.onnx", "--min-speed-up", "0",
                     "--rounds", "10", "--html", "made.html", "--report", "made.json"],
        "export": ["export", "logged", "--out", "made.onnx"],
    }  # fmt: skip


RESOURCE = """\
apiVersion: slipway.dev/v1alpha1
kind: ModelDeployment
metadata: {name: m}
spec: {model: {uri: "s3://b/m.onnx", digest: "sha256:%s"}}
""" % (64 * "0")  # fmt: skip


@pytest.fixture
def original(tmp_path: Path) -> Path:
    place = tmp_path / "original"
    place.mkdir()
    (place / "model.onnx").write_bytes(models.linear())
    wide = models.build(
        [models.helper.make_node("MatMul", ["x", "w"], ["y"])],
        [models.tensor("x", ["n", 256])],
        [models.tensor("y", ["n", 256])],
        [models.constant("w", np.random.default_rng(0).normal(size=(256, 256)))],
    )
    (place / "wide.onnx").write_bytes(wide)
    for name in ("a", "b"):
        (place / f"{name}.yaml").write_text(RESOURCE)
    logged = place / "logged"
    logged.mkdir()
    (logged / "MLmodel").write_text("flavors:\n  onnx: {data: model.onnx}\n")
    (logged / "model.onnx").write_bytes(models.linear())
    return place


@pytest.mark.parametrize("name", COMMANDS)
def test_an_interrupt_at_any_write_leaves_nothing_half_written(
    original: Path, tmp_path: Path, name: str
) -> None:
    work = tmp_path / "work"
    shutil.copytree(original, work)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, work, json.dumps(COMMANDS[name]), original],
        env=environment({"TMPDIR": str(temporary)}), capture_output=True, text=True, check=False,
        timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # What the first run said comes before.
    told: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    assert not list(temporary.iterdir()), "temporary folders are removed"
    *interrupted, whole = told
    assert whole["code"] == 0, whole
    assert len(interrupted) >= 2
    given = {
        str(path.relative_to(original)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in original.rglob("*")
        if path.is_file()
    }
    for number, item in enumerate(interrupted, 1):
        assert item["code"] == 130, (number, item)
        left = item["files"]
        assert left.keys() <= whole["files"].keys(), f"event {number} left something behind"
        assert left.keys() >= given.keys()
        for path, digest in left.items():
            # A report holds times, which are other ones each time.
            if not path.startswith("made.") or path == "made.yaml":
                assert digest in (given.get(path), whole["files"][path]), f"{path} at {number}"
        if name == "set-digest":
            assert left in (given, whole["files"]), f"event {number}: all files or none"

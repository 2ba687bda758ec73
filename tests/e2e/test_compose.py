"""What `slipway compose --run` prints, run by a real Docker daemon with the image as built."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from cli_kit.run import process
from e2e_types import Installed
from runtime_kit import onnx_models

from slipway_dev import docker, images
from slipway_dev.network import free_port
from slipway_dev.wait import wait_until


@pytest.fixture
def daemon(installed: Installed) -> Iterator[docker.Daemon]:
    with docker.Daemon() as daemon:
        yield daemon


def lines_for(model: Path, name: str, port: int) -> list[list[str]]:
    """The printed lines, with the host's network: the daemon of these tests has no bridge."""
    asked = ("--name", name, "--port", port, "--image", images.reference("runtime"), "--run")
    ended = process("compose", model, *asked, cwd=model.parent)
    assert ended.code == 0, ended.err
    lines = [shlex.split(line) for line in ended.out.splitlines()]
    published = f"--publish=127.0.0.1:{port}:8080"
    assert published in lines[-1]
    at = lines[-1].index(published)
    lines[-1][at : at + 1] = [
        *("--network=host", f"--name={name}"),
        *("--env=SLIPWAY_HOST=127.0.0.1", f"--env=SLIPWAY_PORT={port}"),
    ]
    return lines


def test_the_printed_lines_fetch_a_model_and_serve_it(
    daemon: docker.Daemon, tmp_path: Path
) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(onnx_models.linear())
    tmp_path.chmod(0o755)  # the image's user is nobody in particular
    name, port = f"compose-{free_port()}", free_port()
    *before, serve = lines_for(model, name, port)

    def run(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*daemon.client(), *words],
            capture_output=True, text=True, check=False, timeout=120, env=daemon.environment(),
        )  # fmt: skip
        assert not check or done.returncode == 0, (words, done.stdout, done.stderr)
        return done

    with contextlib.ExitStack() as stack:
        stack.callback(run, "volume", "rm", "--force", f"slipway-{name}", check=False)
        for line in before:
            run(*line[1:])
        stack.callback(run, "rm", "--force", name, check=False)
        run("run", "--detach", *serve[2:])
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/predict",
            orjson.dumps([1, 2, 3, 4]),
            {"content-type": "application/json"},
        )

        def answers() -> str | None:
            try:
                with urllib.request.urlopen(request, timeout=5) as answer:
                    found = orjson.loads(answer.read())
                    return None if found == {"y": [41, 51]} else str(found)
            except OSError as error:
                told = run("logs", name, check=False)
                return f"{error}\n{told.stdout}{told.stderr}"

        wait_until("the model answers", answers, 60)
        (state,) = orjson.loads(run("inspect", name).stdout)
        assert state["HostConfig"]["ReadonlyRootfs"] is True
        assert state["HostConfig"]["CapDrop"] == ["ALL"]
        assert state["Config"]["User"] == "65532:65532"
        # It ends at once and well when it is asked to.
        run("stop", "--time", "40", name)

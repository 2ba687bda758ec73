"""The images as built: small, for no root, and without what a server does not need."""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pytest
from e2e_types import Installed

from slipway_dev import docker, images

MEGABYTE = 1_000_000
LIMITS = {"operator": 150, "runtime": 250}
UNWANTED = {
    "a compiler": {"gcc", "cc", "g++", "ld", "as"},
    "a shell": {"sh", "bash", "dash"},
    "pip": {"pip", "pip3"},
    "a package manager": {"apt", "apt-get", "dpkg"},
}
FRAMEWORKS = {"torch", "tensorflow", "sklearn", "onnxscript", "pip", "setuptools"}


@dataclass(frozen=True)
class Image:
    config: dict[str, Any]
    files: list[tarfile.TarInfo]


@pytest.fixture(scope="module", params=images.NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def image(name: str, installed: Installed) -> Image:
    """What ``docker save`` gives: the configuration and the files of every layer."""
    files: list[tarfile.TarInfo] = []
    documents: dict[str, Any] = {}
    with (
        docker.Daemon() as daemon,
        daemon.save(images.reference(name)) as stream,
        tarfile.open(fileobj=stream, mode="r|") as archive,
    ):
        for member in archive:
            content = archive.extractfile(member)
            if content is None:
                continue
            if member.name.endswith(".tar"):
                with tarfile.open(fileobj=content, mode="r|") as layer:
                    files.extend(layer)
            elif member.name.endswith(".json"):
                documents[member.name] = json.load(content)
    (manifest,) = documents["manifest.json"]
    return Image(documents[manifest["Config"]]["config"], files)


def test_the_image_is_small(name: str, installed: Installed) -> None:
    size = installed.image_sizes[images.reference(name)] / MEGABYTE
    print(f"{name}: {size:.0f} MB")
    assert size <= LIMITS[name]


def test_it_runs_as_a_numeric_user_that_is_not_root(image: Image) -> None:
    assert image.config["User"].split(":")[0].isdigit()
    assert not image.config["User"].startswith("0")


def test_it_says_what_it_is_and_how_to_probe_it(image: Image) -> None:
    assert image.config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert image.config["Healthcheck"]["Test"]


def test_no_telemetry_is_sent_from_the_runtime(name: str, image: Image) -> None:
    if name == "runtime":
        assert "ORT_DISABLE_TELEMETRY=1" in image.config["Env"]
    assert not any("TELEMETRY=0" in variable for variable in image.config["Env"])


@pytest.mark.parametrize("programs", UNWANTED.values(), ids=UNWANTED.keys())
def test_it_has_not(image: Image, programs: set[str]) -> None:
    found = {
        file.name
        for file in image.files
        if PurePosixPath(file.name).parent.name in ("bin", "sbin")
        and PurePosixPath(file.name).name in programs
    }
    assert not found


def test_it_has_no_training_framework_and_no_installer(image: Image) -> None:
    packages = {
        PurePosixPath(file.name).name
        for file in image.files
        if PurePosixPath(file.name).parent.name == "site-packages"
    }
    assert "slipway_runtime" in packages or "slipway_operator" in packages
    assert not packages & FRAMEWORKS


def test_no_file_lends_its_owners_rights(image: Image) -> None:
    assert not [file.name for file in image.files if file.isfile() and file.mode & 0o6000]

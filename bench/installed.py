"""What an environment of Python holds on disk: versions, and bytes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9._-]+")


def versions(environment: Path, packages: Iterable[str]) -> dict[str, str]:
    """The version of each of these requirements as it is installed there, and of Python."""
    found = {
        _normal(one.name): one.version
        for one in metadata.distributions(path=[str(_site_packages(environment))])
    }
    names = [_NAME.match(package)[0] for package in packages]  # type: ignore[index]
    told = {name: found[_normal(name)] for name in names if _normal(name) in found}
    return told | {"python": _python(environment)}


def bytes_of_all(environment: Path) -> int:
    """The bytes of all that is installed there, without what Python has compiled on the way."""
    return sum(
        (Path(folder) / name).lstat().st_size
        for folder, _, names in os.walk(_site_packages(environment))
        if not folder.endswith("__pycache__")
        for name in names
    )


def bytes_of(environment: Path, names: Sequence[str]) -> int:
    """The same of these distributions alone, in an environment that holds others besides.

    Those that are not installed there do not count.
    """
    wanted = {_normal(name) for name in names}
    site = _site_packages(environment)
    return sum(
        path.lstat().st_size
        for one in metadata.distributions(path=[str(site)])
        if _normal(one.name) in wanted
        for file in one.files or ()
        if "__pycache__" not in file.parts and (path := Path(str(file.locate()))).exists()
    )


def pinned(requirements: Path) -> list[str]:
    """The names that a file of requirements pins."""
    lines = requirements.read_text().splitlines()
    return [line.partition("==")[0].strip() for line in lines if "==" in line and line[0].isalpha()]


def _site_packages(environment: Path) -> Path:
    (site,) = environment.glob("lib/python3*/site-packages")
    return site


def _python(environment: Path) -> str:
    lines = (environment / "pyvenv.cfg").read_text().splitlines()
    told = dict(line.split(" = ", 1) for line in lines if " = " in line)
    return told.get("version_info") or told["version"]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()

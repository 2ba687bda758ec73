"""``slipway.toml``: defaults of a project, below flags and environment variables.

A section has the name of a command and holds its options, without the dashes; the section
``[storage]`` counts for every command that talks to storage:

    [storage]
    endpoint = "https://s3.example.com"

    [push]
    to = "s3://models/fraud"
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.errors import InvalidArguments, NotFound

FILE_NAME = "slipway.toml"
SHARED_SECTION = "storage"
STORAGE_OPTIONS = ("endpoint", "region", "addressing_style", "ca_bundle")
_PROJECT_ROOT = ".git"


@dataclass(frozen=True)
class ProjectFile:
    """What a ``slipway.toml`` says: ``sections`` map a name to options, with underscores."""

    path: Path
    sections: Mapping[str, Mapping[str, Any]]

    def defaults_of(self, command: str, options: Mapping[str, str]) -> dict[str, Any]:
        """Return the defaults of one command; ``options`` are its parameters by flag.

        Raises:
            InvalidArguments: the command's section names an option that does not exist.
        """
        own = self.sections.get(command, {})
        self._check(command, own, options)
        shared = self.sections.get(SHARED_SECTION, {})
        self._check(SHARED_SECTION, shared, STORAGE_OPTIONS)
        known = {name: value for name, value in shared.items() if name in options} | dict(own)
        return {options[name]: value for name, value in known.items()}

    def _check(self, section: str, given: Collection[str], known: Collection[str]) -> None:
        for name in given:
            if name not in known:
                listed = ", ".join(sorted(option.replace("_", "-") for option in known))
                raise InvalidArguments(
                    f"{self.path}: [{section}] has no option {name.replace('_', '-')!r}",
                    f"its options are {listed}",
                )


def find(start: Path) -> Path | None:
    """Return the nearest ``slipway.toml``, from ``start`` up to the root of its repository."""
    for folder in (start, *start.parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
        if (folder / _PROJECT_ROOT).exists():
            return None
    return None


def load(path: Path, commands: Collection[str]) -> ProjectFile:
    """Read a project file.

    Raises:
        NotFound: there is no such file.
        InvalidArguments: no TOML, or a section that no command has.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}", "name another one with --config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArguments(f"{path} is no TOML: {error}") from None
    known = (SHARED_SECTION, *commands)
    for section, values in content.items():
        if section not in known or not isinstance(values, dict):
            raise InvalidArguments(
                f"{path}: {section!r} is not a section",
                f"sections are {', '.join(f'[{name}]' for name in known)}",
            )
    return ProjectFile(
        path,
        {
            section: {name.replace("-", "_"): value for name, value in values.items()}
            for section, values in content.items()
        },
    )

"""The pages say what the program does: every command, exit code, and option that they use."""

from __future__ import annotations

import importlib
import inspect
import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from slipway import errors
from slipway.cli import Slipway, cli
from slipway.errors import SlipwayError

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/cli.md").read_text()
CI = sorted((ROOT / "examples/ci").glob("*.yaml"))


def command(name: str) -> click.Command:
    return importlib.import_module(Slipway.entries[name].module).command


def used(text: str) -> list[list[str]]:
    """Every line of a page or pipeline that calls slipway, as words."""
    lines = re.findall(r"^(?:    |\$ |.*run: |    - |.*\| )(slipway [a-z].*)$", text, re.MULTILINE)
    return [shlex.split(re.split(r" #| > | \| | &", line)[0]) for line in lines]


def test_every_command_has_its_row() -> None:
    rows = re.findall(r"^\| \[?`([a-z]+)`", PAGE, re.MULTILINE)
    assert rows == list(Slipway.entries)


def test_every_exit_code_has_its_row() -> None:
    rows = dict(re.findall(r"^\| (\d+) \| (\w+) \|", PAGE, re.MULTILINE))
    known = {
        str(kind.exit_code): name
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, SlipwayError)
    }
    assert rows == known


@pytest.mark.parametrize("path", [ROOT / "docs/cli.md", ROOT / "docs/tutorial.md", *CI], ids=str)
def test_what_a_page_calls_exists(path: Path) -> None:
    lines = used(path.read_text())
    assert len(lines) >= 4
    for _, name, *words in lines:
        if name == "COMMAND":
            continue
        context = click.Context(command(name), info_name=name, parent=click.Context(cli))
        command(name).make_parser(context).parse_args([word for word in words if word != "…"])


@pytest.mark.parametrize("path", CI, ids=str)
def test_a_pipeline_sets_the_digest_of_what_it_has_pushed(path: Path) -> None:
    text = path.read_text()
    assert yaml.safe_load(text)
    names = [words[1] for words in used(text)]
    assert names == ["inspect", "validate", "push", "manifest"]

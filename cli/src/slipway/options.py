"""Options that several commands share, and how a command says what it found."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from slipway import files

F = TypeVar("F", bound=Callable[..., Any])

FILE = click.Path(path_type=Path)


class _Written(click.Path):
    """A file that is written once the work is done; that this is possible is checked first."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        return files.require_writable(Path(os.fsdecode(super().convert(value, param, ctx))))


WRITTEN = _Written()


def json_option(command: F) -> F:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


def storage_options(command: F) -> F:
    """Add what it takes to reach S3; credentials come by botocore's own chain."""
    for option in (
        click.option(
            "--ca-bundle",
            type=FILE,
            envvar="SLIPWAY_CA_BUNDLE",
            help="PEM file of the authorities that the server's certificate is checked against.",
        ),
        click.option(
            "--addressing-style",
            type=click.Choice(["auto", "path", "virtual"]),
            default="auto",
            show_default=True,
            envvar="SLIPWAY_S3_ADDRESSING_STYLE",
            help="https://host/bucket (path) or https://bucket.host (virtual).",
        ),
        click.option(
            "--region",
            envvar=["SLIPWAY_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"],
            help="Region of the bucket.",
        ),
        click.option(
            "--endpoint",
            envvar=["SLIPWAY_ENDPOINT", "AWS_ENDPOINT_URL"],
            help="URL of an S3-compatible server; default: AWS.",
        ),
    ):
        command = option(command)
    return command

"""A click group that imports a command's module only when that command is used.

The names and one-line descriptions stand in a table, so that neither ``--help`` nor shell
completion imports a command.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass

import click
from click.shell_completion import CompletionItem

_PREFIX = "SLIPWAY"


@dataclass(frozen=True)
class Entry:
    """Where a command is: ``module`` holds a click command named ``command``."""

    module: str
    summary: str


class LazyGroup(click.Group):
    """A group of commands that are imported on use, listed in the table's order."""

    entries: Mapping[str, Entry] = {}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names in the table's order."""
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command."""
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        command = importlib.import_module(entry.module).command
        assert isinstance(command, click.Command)
        for name, option in options_of(command).items():
            option.envvar = option.envvar or f"{_PREFIX}_{cmd_name}_{name}".upper()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the table of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in self.entries.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete names from the table, and the group's own options."""
        found = [
            CompletionItem(name, help=entry.summary)
            for name, entry in self.entries.items()
            if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]


def options_of(command: click.Command) -> dict[str, click.Option]:
    """Return the options of a command by their flags, with underscores and without the dashes."""
    found: dict[str, click.Option] = {}
    for option in command.params:
        if isinstance(option, click.Option):
            flag = next(text for text in option.opts if text.startswith("--"))
            found[flag.removeprefix("--").replace("-", "_")] = option
    return found

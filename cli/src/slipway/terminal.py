"""What people and programs see: tables on stdout, notes and progress on stderr.

Off a terminal there is neither colour nor progress, and tables are as wide as they need to be.
With ``--json`` stdout holds one JSON document and nothing else. rich is imported where it draws
something, since that takes a tenth of a second.
"""

# ruff: noqa: PLC0415

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Advance = Callable[[int], None]

_WIDE = 400
_KIBI = 1024


def console(*, stderr: bool = False) -> Console:
    """Return a console for one of the two streams, as they are now."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(
        file=stream,
        width=None if stream.isatty() else _WIDE,
        highlight=False,
        soft_wrap=not stream.isatty(),
    )


def as_text(value: object) -> str:
    """Write a JSON document for people and programs."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def print_json(value: object) -> None:
    """Print one JSON document."""
    click.echo(as_text(value))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
    """Print a table; a cell is plain text, never markup."""
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=title or None, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    _print(table)


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Print names and values in two columns."""
    told = list(facts)
    width = max((len(name) for name, _ in told), default=0)
    bold = sys.stdout.isatty()
    for name, value in told:
        label = click.style(name.ljust(width), bold=True) if bold else name.ljust(width)
        click.echo(f"{label}  {value}".rstrip())


def _print(table: Table) -> None:
    screen = console()
    with screen.capture() as captured:
        screen.print(table)
    # Without the blanks that fill the last column: programs read this too.
    for line in captured.get().splitlines():
        screen.file.write(f"{line.rstrip()}\n")


def note(text: str) -> None:
    """Show what is going on; silent off a terminal."""
    if sys.stderr.isatty():
        click.echo(text, err=True)


def warn(text: str) -> None:
    """Print a warning."""
    click.secho(f"warning: {text}", err=True, fg="yellow" if sys.stderr.isatty() else None)


@contextmanager
def transfer_bar(description: str, total: int) -> Generator[Advance, None, None]:
    """Show a bar for ``total`` bytes, on a terminal; yields what takes the bytes done."""
    if not sys.stderr.isatty():
        yield lambda _count: None
        return
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task(description, total=total)
        yield lambda count: bar.advance(task, count)


@contextmanager
def following(title: str) -> Generator[Callable[[str], None], None, None]:
    """Show the newest of several sentences, on a terminal; yields what takes them."""
    if not sys.stderr.isatty():
        yield lambda _said: None
        return
    from rich.text import Text

    with console(stderr=True).status(title) as line:
        yield lambda said: line.update(Text(f"{title}: {said}"))


@contextmanager
def working(description: str) -> Generator[None, None, None]:
    """Show that something is in progress, on a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    with console(stderr=True).status(description):
        yield


@contextmanager
def own_stdout() -> Generator[None, None, None]:
    """Send what other people's code prints to stderr: stdout is for what the command says."""
    if sys.stdout is not sys.__stdout__:  # Captured by whoever calls this in a process of theirs.
        with redirect_stdout(sys.stderr):
            yield
        return
    _flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        _flush()
        os.dup2(kept, 1)
        os.close(kept)


def _flush() -> None:
    """Write out what Python and C still hold back."""
    sys.stdout.flush()
    ctypes.CDLL(None).fflush(None)


def size(count: int) -> str:
    """Write a number of bytes as a person reads it."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < _KIBI or unit == "GiB":
            return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= _KIBI
    raise AssertionError

"""The few pieces of Markdown that the generators share."""

from collections.abc import Iterable, Sequence


def cell(text: str) -> str:
    """Text as it may stand in a table: one line, no column separator of its own."""
    return " ".join(text.split()).replace("|", "\\|")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; every row has as many cells as the header."""
    lines = [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}"]
    lines += [f"| {' | '.join(cell(text) for text in row)} |" for row in rows]
    return "\n".join(lines) + "\n"

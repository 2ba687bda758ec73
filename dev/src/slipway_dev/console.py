"""What a person sees while they wait: on stderr, so that stdout carries only results."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console

console = Console(stderr=True, highlight=False)
results = Console(highlight=False, soft_wrap=True)

_SECONDS_BETWEEN_NEWS = 30
_spinner_is_free = threading.Lock()


def say(message: str) -> None:
    """Print one line of news."""
    console.print(message)


@contextmanager
def step(title: str, *, spinner: bool = True) -> Generator[Callable[[str], None]]:
    """Show that `title` is being done, then that it is done and how long it took.

    Yields a function that adds a detail while the step runs. On a terminal there is a spinner (one
    at a time: steps may run in several threads), unless the step draws there itself; elsewhere
    there is one line at the end, and now and then a line while a long step runs.
    """
    began = said = time.monotonic()
    spinning = spinner and console.is_terminal and _spinner_is_free.acquire(blocking=False)
    status = console.status(title) if spinning else None

    def detail(text: str) -> None:
        nonlocal said
        now = time.monotonic()
        news = f"{title} [dim]{text} ({now - began:.0f} s)[/dim]"
        if status is not None:
            status.update(news)
        elif now - said > _SECONDS_BETWEEN_NEWS:
            said = now
            console.print(f"… {news}")

    try:
        if status is None:
            yield detail
        else:
            with status:
                yield detail
    except BaseException:
        console.print(f"[red]✗[/red] {title}")
        raise
    finally:
        if spinning:
            _spinner_is_free.release()
    console.print(f"[green]✓[/green] {title} [dim]{time.monotonic() - began:.1f} s[/dim]")

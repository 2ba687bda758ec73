"""A real browser: Debian's headless Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, sync_playwright

_NAMES = ("chromium-headless-shell", "chromium", "google-chrome")
# What it would ask of its maker's hosts by itself.
_QUIET = ("--disable-background-networking", "--disable-component-update", "--no-first-run")


@contextmanager
def open_page() -> Iterator[tuple[Page, list[str], list[str]]]:
    """Yield an empty page, the addresses it asks for, and what its console and errors say."""
    program = next((path for name in _NAMES if (path := shutil.which(name))), None)
    assert program, (
        "no browser found: `dev/setup browser` installs one as root, elsewhere:"
        f" apt-get install {_NAMES[0]}"
    )
    with sync_playwright() as playwright:
        # Its sandbox needs user namespaces, which root in a container often lacks.
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", *_QUIET], timeout=30_000
        )
        try:
            page = browser.new_page()
            page.set_default_timeout(15_000)
            asked, said = list[str](), list[str]()
            page.on("request", lambda request: asked.append(request.url))
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            yield page, asked, said
        finally:
            browser.close()

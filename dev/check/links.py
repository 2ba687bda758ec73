"""Checks that every relative link in the Markdown files leads to a file, and #anchors to a heading.

Pages elsewhere are not asked: a check must not fail because of somebody else's server.
"""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|^\[[^\]]+\]:\s+(\S+)", re.MULTILINE)
_FENCE = re.compile(r"^(```|~~~).*?^\1\s*$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*$", re.MULTILINE)


def _pages() -> list[Path]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return [page for line in done.stdout.splitlines() if (page := ROOT / line).exists()]


@cache
def _anchors(page: Path) -> frozenset[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = _HEADING.findall(page.read_text())
    return frozenset(re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings)


def broken_links(page: Path) -> list[str]:
    """Relative links of one page that lead nowhere."""
    broken: list[str] = []
    for match in _LINK.finditer(_FENCE.sub("", page.read_text())):
        link = match[1] or match[2]
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        anchored = bool(anchor) and target.suffix == ".md"
        if not target.exists() or (anchored and anchor not in _anchors(target)):
            broken.append(link)
    return broken


def main() -> int:
    """Print each broken link; the exit code is 1 when there is one."""
    pages = _pages()
    found = [(page, link) for page in pages for link in broken_links(page)]
    for page, link in found:
        print(f"{page.relative_to(ROOT)}: {link} leads nowhere")
    if not found:
        print(f"{len(pages)} pages: every relative link leads somewhere")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

"""Adds up the tests of all stages: `python dev/check/total.py FOLDER` reads pytest's XML results.

The line that it prints is the last of `make test`, since each stage's own count scrolls away.
"""

import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree


def total(folder: Path) -> Counter[str]:
    """Tests, failures, errors and skipped ones of every result in the folder."""
    counts: Counter[str] = Counter()
    for file in sorted(folder.glob("*.xml")):
        # Written by pytest on this machine a moment ago.
        for suite in ElementTree.parse(file).getroot().iter("testsuite"):
            for key in ("tests", "failures", "errors", "skipped"):
                counts[key] += int(suite.get(key, "0"))
    return counts


def main() -> int:
    """Print the total; the exit code is 1 when a test failed or none ran."""
    counts = total(Path(sys.argv[1]))
    failed = counts["failures"] + counts["errors"]
    passed = counts["tests"] - failed - counts["skipped"]
    print(f"{passed} passed, {failed} failed, {counts['skipped']} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())

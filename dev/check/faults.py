"""The fault table: every test with the marker ``fault`` has a recorded row, and every row a test.

    python dev/check/faults.py             name what is missing or has no test any more
    python dev/check/faults.py --record    keep what the last run of the tests recorded

The rows lie in bench/results/faults.json; `make generate` writes docs/faults.md from them.
"""

import argparse
import contextlib
import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "bench" / "results" / "faults.json"
RECORDED = ROOT / ".tools" / "results" / "faults"
SUITES = ("tests/e2e", "tests/controlplane")

Row = dict[str, Any]
Name = tuple[str, str]


class _Collector:
    """A pytest plugin that notes which faults the collected tests are about."""

    def __init__(self) -> None:
        self.names: list[Name] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        markers = (item.get_closest_marker("fault") for item in items)
        self.names = [(m.args[0], m.args[1]) for m in markers if m is not None]


def tested() -> list[Name]:
    """Group and fault of every marked test, in the tests' order."""
    collector = _Collector()
    suites = [str(ROOT / suite) for suite in SUITES]
    options = ["--collect-only", "-qq", "-p", "no:cacheprovider", f"--rootdir={ROOT}"]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = pytest.main([*options, *suites], plugins=[collector])
    if code != pytest.ExitCode.OK:
        raise SystemExit(f"the tests cannot be collected:\n{said.getvalue()}")
    return collector.names


def name_of(row: Row) -> Name:
    """What a row is about."""
    return row["group"], row["fault"]


def disagreements(names: list[Name], rows: list[Row]) -> list[str]:
    """What is missing on either side, in words."""
    recorded = [name_of(row) for row in rows]
    return [
        *(f"{': '.join(name)}: no recorded row" for name in names if name not in recorded),
        *(f"{': '.join(name)}: no test" for name in recorded if name not in names),
        *(f"{': '.join(name)}: two tests" for name in set(names) if names.count(name) > 1),
    ]


def merged(names: list[Name], kept: list[Row], recorded: list[Row]) -> list[Row]:
    """The newest row of every fault that is still tested, in the tests' order."""
    newest = {name_of(row): row for row in (*kept, *recorded)}
    return [newest[name] for name in names if name in newest]


def main() -> int:
    """Run; the exit code is 1 when tests and rows disagree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--record", action="store_true", help="keep what the last run recorded")
    record: bool = parser.parse_args().record
    names = tested()
    rows: list[Row] = json.loads(KEPT.read_text()) if KEPT.exists() else []
    if record:
        today = time.strftime("%Y-%m-%d")
        new = [json.loads(file.read_text()) for file in sorted(RECORDED.glob("*.json"))]
        rows = merged(names, rows, [{**row, "date": today} for row in new])
        KEPT.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    wrong = disagreements(names, rows)
    for what in wrong:
        print(f"{what}; run its test and then `make faults-page`")
    if not wrong:
        print(f"{len(rows)} faults are tested and recorded")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

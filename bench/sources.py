"""Each kind of source, from its framework to the answers of a pod: how far apart the numbers are.

    PYTHONPATH=tests/support uv run --frozen python bench/sources.py [--only NAME]

On a real node, with the images of this checkout and an S3 server: every model is exported,
validated, packed, pushed, verified there, put into a manifest, applied, and asked through its
Service for rows that no step has seen; the answers are compared with what the framework computes
itself (tests/support/source_kit). Writes ``sources.json`` and ``sources.md``; ends with 1 if an
answer is further away than the tolerance. Needs root, like `make test-e2e`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from environment import environment, publish
from source_kit.journey import Arrived, travel
from source_kit.kinds import ROWS, all_kinds

from slipway_dev.testbed import Testbed, results_folder

NAMESPACE = "sources"
AT_ONCE = 2


def journeys(testbed: Testbed, folder: Path, only: str) -> list[Arrived]:
    kinds = [kind for kind in all_kinds(folder) if only in kind.name]

    def one(index: int) -> Arrived:
        name = f"source-{index}"
        found = travel(kinds[index], name, folder / name, testbed, NAMESPACE)
        print(found, flush=True)
        return found

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(one, range(len(kinds))))


def table(results: dict[str, Any]) -> str:
    where = results["environment"]
    lines = [
        "# From each source to an answer in the cluster",
        "",
        f"{where['date']}, commit {where['commit']}: Kubernetes {where['kubernetes']}, Python",
        f"{where['python']}. Every model was exported, validated, packed, pushed to an S3 server,",
        "verified there, applied as the manifest that `slipway manifest` writes, fetched, verified",
        f"and served by a pod, and asked through its Service for {ROWS} rows that none had seen.",
        "The largest differences to what",
        "the framework computes itself; `bench/sources.py` says how.",
        "",
        "| source | exporter | export: max abs | answers: max abs | answers: max relative |",
        "|---|---|---|---|---|",
    ]
    for row in results["sources"]:
        export = row["exported"]
        lines.append(
            f"| {row['kind']} | {row['exporter']} | {'-' if export is None else f'{export:.2g}'} |"
            f" {row['absolute']:.2g} | {row['relative']:.2g} |"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="kinds whose name holds this")
    parser.add_argument("--output", type=Path, default=results_folder())
    arguments = parser.parse_args()
    testbed = Testbed("bench-sources")
    try:
        testbed.up()
        testbed.create_namespace(NAMESPACE)
        with tempfile.TemporaryDirectory() as name:
            arrived = journeys(testbed, Path(name), arguments.only)
    finally:
        testbed.down()
    results = {"environment": environment(), "sources": [asdict(item) for item in arrived]}
    publish(arguments.output, "sources", results, table(results))
    far = [item.kind for item in arrived if not item.close]
    if far:
        sys.exit(f"too far from the framework's own answers: {', '.join(far)}")


if __name__ == "__main__":
    main()

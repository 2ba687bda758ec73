"""Writes every generated file, or checks that none is stale.

    python dev/generate            write
    python dev/generate --check    write nothing; exit 1 and name what is stale

Each generator is a pure function that returns a file's text; this is the only place that writes.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import chart_readme
import crd_manifests
import faults_page
import metrics_page
import requirements
import resource_reference

ROOT = Path(__file__).resolve().parents[2]

GENERATED: dict[str, Callable[[Path], str]] = {
    "crds/modeldeployments.yaml": crd_manifests.plain,
    "charts/slipway/templates/crd.yaml": crd_manifests.chart_template,
    "charts/slipway/README.md": chart_readme.render,
    "docs/faults.md": faults_page.render,
    "docs/metrics.md": metrics_page.render,
    "docs/resource.md": resource_reference.render,
    **requirements.FILES,
}


def stale(root: Path, *, write: bool) -> list[str]:
    """Paths whose text is not what its generator says; written when asked to."""
    paths: list[str] = []
    for path, generate in GENERATED.items():
        text = generate(root)
        file = root / path
        if not file.exists() or file.read_text() != text:
            paths.append(path)
            if write:
                file.write_text(text)
    return paths


def main() -> int:
    """Run; the exit code is 1 when something was stale and not written."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="only tell what is stale")
    check: bool = parser.parse_args().check
    paths = stale(ROOT, write=not check)
    for path in paths:
        print(f"{path}: {'stale; run `make generate` and commit it' if check else 'written'}")
    if not paths:
        print(f"{len(GENERATED)} generated files are up to date")
    return 1 if check and paths else 0


if __name__ == "__main__":
    sys.exit(main())

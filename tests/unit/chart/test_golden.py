"""What the chart renders, as files to read in a review: `make golden` writes them anew."""

import os
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("ci", ["default", "namespaced", "ha", "gpu", "integrations"])
def test_the_chart_renders_what_was_reviewed(render_text, ci):
    # The CRD is a generated file of its own, reviewed in crds/.
    text = render_text({"crds": {"install": False}}, ci)
    file = GOLDEN / f"{ci}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        file.write_text(text)
    assert text == file.read_text(), "rendered otherwise: `make golden`, then read the difference"

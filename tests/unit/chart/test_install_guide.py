"""docs/install.md promises which rights the operator takes."""

import re
from pathlib import Path

GUIDE = Path(__file__).resolve().parents[3] / "docs/install.md"


def test_the_guide_lists_exactly_the_rights_that_the_chart_grants(render, pick):
    role = pick(render(), "ClusterRole", name="slipway")
    granted = {
        resource: ", ".join(rule["verbs"])
        for rule in role["rules"]
        for resource in rule["resources"]
    }
    rows = re.findall(r"^\| `([a-z/]+)` \| ([a-z, ]+) \|", GUIDE.read_text(), re.MULTILINE)
    assert dict(rows) == granted

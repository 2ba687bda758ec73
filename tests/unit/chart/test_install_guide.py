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


def test_the_guide_lists_what_each_integration_grants_besides(render, pick):
    def granted(ci: str) -> dict[str, str]:
        role = pick(render(ci=ci), "ClusterRole", name="slipway")
        return {
            resource: ", ".join(rule["verbs"])
            for rule in role["rules"]
            for resource in rule["resources"]
        }

    more = {k: v for k, v in granted("integrations").items() if k not in granted("default")}
    row = re.compile(r"^\| [^|]+ \| `([a-z]+)` \| ([a-z, ]+) \|", re.MULTILINE)
    assert dict(row.findall(GUIDE.read_text())) == more

import json

import pytest
from fault_record import FaultRecord


@pytest.fixture
def faults(script):
    return script("check/faults")


def row(fault: str, **more) -> dict:
    return {"group": "People", "fault": fault, **more}


def test_a_test_without_a_row_and_a_row_without_a_test_are_named(faults):
    names = [("People", "paused"), ("People", "scaled")]
    assert faults.disagreements(names, [row("paused"), row("gone")]) == [
        "People: scaled: no recorded row",
        "People: gone: no test",
    ]
    assert faults.disagreements(names, [row("scaled"), row("paused")]) == []


def test_two_tests_of_one_fault_are_named(faults):
    name = ("People", "paused")
    assert faults.disagreements([name, name], [row("paused")]) == ["People: paused: two tests"]


def test_the_newest_rows_are_kept_in_the_order_of_the_tests(faults):
    names = [("People", "scaled"), ("People", "paused")]
    kept = [row("paused", sent=1), row("gone", sent=2), row("scaled", sent=3)]
    assert faults.merged(names, kept, [row("paused", sent=4)]) == [
        row("scaled", sent=3),
        row("paused", sent=4),
    ]


def test_a_record_is_written_with_the_class_of_its_reason(tmp_path):
    record = FaultRecord("Artifact", "wrong digest", "DigestMismatch", "told", 1.5, 10, 0, "back")
    written = json.loads(record.write(tmp_path).read_text())
    assert (written["failure_class"], written["sent"]) == ("intrinsic", 10)
    paused = FaultRecord("People", "paused", "", "undone", None, 0, 0, "undone")
    assert paused.failure_class == "-"


def test_the_page_adds_up_the_requests(script, tmp_path):
    page = script("generate/faults_page")
    file = tmp_path / page.RECORDED
    file.parent.mkdir(parents=True)
    rest = {"reason": "", "failure_class": "-", "seen": "a | b", "healed": "", "date": "2026-01-01"}
    rows = [
        row("one", seconds=None, sent=1000, failed=0, **rest),
        row("two", seconds=2.0, sent=500, failed=1, **rest),
    ]
    file.write_text(json.dumps(rows))
    text = page.render(tmp_path)
    assert "**2 faults, 1,500 requests sent, 1 failed** (2026-01-01)" in text
    assert r"| one | - | - | a \| b | - | 1,000 | 0 |" in text

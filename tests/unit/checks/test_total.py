import pytest


@pytest.fixture
def total(script, tmp_path):
    def run(*suites: str) -> dict[str, int]:
        for number, attributes in enumerate(suites):
            (tmp_path / f"{number}.xml").write_text(
                f"<testsuites><testsuite {attributes}/></testsuites>"
            )
        return dict(script("check/total").total(tmp_path))

    return run


def test_the_results_of_all_stages_are_added_up(total):
    assert total(
        'tests="5" failures="1" errors="0" skipped="1"',
        'tests="2" failures="0" errors="1" skipped="0"',
    ) == {"tests": 7, "failures": 1, "errors": 1, "skipped": 1}


def test_no_result_is_no_test(total):
    assert total() == {}

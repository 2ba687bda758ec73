import pytest


@pytest.fixture
def broken(script, tmp_path):
    (tmp_path / "other.md").write_text("# What it `does`, and why\n")

    def run(text: str) -> list[str]:
        page = tmp_path / "page.md"
        page.write_text(text)
        return script("check/links").broken_links(page)

    return run


def test_a_link_to_a_file_that_is_missing_is_found(broken):
    assert broken("[a](other.md) and [b](gone.md)") == ["gone.md"]


def test_an_anchor_must_be_a_heading_of_its_page(broken):
    assert broken("[a](other.md#what-it-does-and-why) [b](other.md#nothing)") == [
        "other.md#nothing"
    ]


def test_links_to_other_servers_and_links_in_code_are_not_asked(broken):
    assert broken("[a](https://example.com/gone)\n```\n[b](gone.md)\n```\n`[c](gone.md)`") == []

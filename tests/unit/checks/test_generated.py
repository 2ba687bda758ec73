import pytest

from slipway_operator.api.crd import structural_schema
from slipway_operator.api.spec import ModelDeploymentSpec

VALUES = """\
# A section.
section:
  # A map in one line is one value.
  flat: {a: 1}
  # A list in lines is one value too,
  # and its comment may have two.
  items:
    - {b: 2}
    - {c: 3}
bare: true
"""


@pytest.fixture
def chart_readme(script):
    return script("generate/chart_readme")


def test_each_value_is_listed_with_its_default_and_the_comment_above_it(chart_readme):
    found = [(value.path, value.default, value.comment) for value in chart_readme.values(VALUES)]
    assert found == [
        ("section", None, "A section."),
        ("section.flat", '{"a": 1}', "A map in one line is one value."),
        (
            "section.items",
            '[{"b": 2}, {"c": 3}]',
            "A list in lines is one value too, and its comment may have two.",
        ),
        ("bare", "true", ""),
    ]


def test_a_value_without_a_comment_is_refused(chart_readme, tmp_path):
    folder = tmp_path / "charts/slipway"
    folder.mkdir(parents=True)
    (folder / "values.yaml").write_text(VALUES)
    with pytest.raises(ValueError, match="no comment above bare"):
        chart_readme.render(tmp_path)


def test_a_stale_file_is_named_and_only_written_when_asked_to(script, tmp_path, monkeypatch):
    generate = script("generate/__main__")
    monkeypatch.setattr(generate, "GENERATED", {"a.txt": lambda _: "new", "b.txt": lambda _: "b"})
    (tmp_path / "a.txt").write_text("old")
    (tmp_path / "b.txt").write_text("b")
    assert generate.stale(tmp_path, write=False) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"
    assert generate.stale(tmp_path, write=True) == ["a.txt"]
    assert generate.stale(tmp_path, write=False) == []


def test_the_field_reference_covers_every_field_of_the_resource(script, tmp_path):
    text = script("generate/resource_reference").render(tmp_path)

    def fields(schema, path):
        for name, field in schema.get("properties", {}).items():
            yield path, name
            yield from fields(field, f"{path}.{name}")

    sections = dict(
        section.split("\n", 1) for section in text.split("\n## ") if section.startswith("spec")
    )
    for path, name in fields(structural_schema(ModelDeploymentSpec), "spec"):
        assert f"| `{name}` |" in sections[path], f"{path}.{name}"

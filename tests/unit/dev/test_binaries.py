"""The cache of built programs."""

import pytest

from slipway_dev import binaries
from slipway_dev.binaries import MODULES, Module, cache_key
from slipway_dev.errors import DevError

GO = "go1.26.8\nlinux\namd64\n"


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.setattr("slipway_dev.paths.tool_modules", lambda: tmp_path)
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool" / "go.mod").write_text("module tool\n")
    (tmp_path / "tool" / "go.sum").write_text("example.com/a v1.0.0 h1:abc\n")
    (tmp_path / "tool" / "main.go").write_text("package main\n")
    return Module("tool", {"tool": "."})


@pytest.mark.parametrize("file", ["go.mod", "go.sum", "main.go"])
def test_the_key_changes_with_each_source(module, file):
    before = cache_key(module, GO)
    path = module.folder / file
    path.write_text(path.read_text() + "// changed\n")

    assert cache_key(module, GO) != before


def test_the_key_changes_with_the_compiler_and_the_flags(module):
    keys = {
        cache_key(module, GO),
        cache_key(module, GO.replace("1.26.8", "1.26.9")),
        cache_key(Module("tool", {"tool": "."}, {"main.version": "v1"}), GO),
        cache_key(Module("tool", {"tool": "."}, tags=("small",)), GO),
    }

    assert len(keys) == 4


def test_the_key_does_not_change_with_files_that_are_not_built(module):
    before = cache_key(module, GO)
    (module.folder / "README.md").write_text("words")

    assert cache_key(module, GO) == before


def test_moving_text_from_one_source_to_the_next_changes_the_key(module):
    (module.folder / "a.go").write_text("xy")
    (module.folder / "b.go").write_text("z")
    before = cache_key(module, GO)
    (module.folder / "a.go").write_text("x")
    (module.folder / "b.go").write_text("yz")

    assert cache_key(module, GO) != before


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_every_module_is_pinned_and_its_packages_are_its_tools(module):
    text = (module.folder / "go.mod").read_text()

    for package in module.packages.values():
        assert package == "." or package in text
    assert (module.folder / "go.sum").exists() or "require" not in text


def test_the_version_that_kubernetes_reports_is_the_one_that_is_pinned():
    kubernetes = next(module for module in MODULES if module.name == "kubernetes")

    pinned = f"k8s.io/kubernetes {binaries.KUBERNETES_VERSION}"
    assert pinned in (kubernetes.folder / "go.mod").read_text()


def test_an_unknown_tool_is_refused_with_the_names_of_the_known():
    with pytest.raises(DevError, match="unknown tool docker") as caught:
        binaries.path("docker")

    assert "helm" in caught.value.hint

"""Loads the scripts in dev/, which are run as programs and are no package."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

DEV = Path(__file__).resolve().parents[3] / "dev"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """script("check/links") -> the module dev/check/links.py."""

    def load(name: str) -> ModuleType:
        file = DEV / f"{name}.py"
        monkeypatch.syspath_prepend(str(file.parent))
        spec = importlib.util.spec_from_file_location(f"script_{file.stem}", file)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return load

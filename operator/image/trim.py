"""Removes from the virtual environment of the image what the operator never loads, and proves it.

Run by the Python of that environment, before its bytecode is compiled.
"""

import importlib
import pkgutil
import shutil
import sysconfig
from pathlib import Path

import slipway_operator

SITE = Path(sysconfig.get_path("purelib"))

# The Kubernetes client is 74 MB of generated, typed requests and models. Each is loaded when its
# name is first used; the operator sends untyped requests through ApiClient and uses none.
TYPED_REQUESTS = ("kubernetes/client/api", "kubernetes/aio/client/api")
TYPED_MODELS = ("kubernetes/client/models", "kubernetes/aio/client/models")
# But kopf names these, to recognise them in what it is given.
USED_MODELS = {"__init__.py", "v1_object_meta.py", "v1_owner_reference.py"}
# And the first of them names this one.
USED_MODELS |= {"v1_managed_fields_entry.py"}

# Test suites, stubs, and sources for building extensions.
UNUSED_FOLDERS = ("tests", "test", "testing")
UNUSED_FILES = ("*.pyi", "*.pyx", "*.pxd", "*.pxi", "*.c", "*.h", "*_test.py")


def trim() -> None:
    """Remove what is listed above; a name that is gone is an error, since the list is then old."""
    for folder in TYPED_REQUESTS:
        shutil.rmtree(SITE / folder)
    for folder in TYPED_MODELS:
        for file in (SITE / folder).glob("*.py"):
            if file.name not in USED_MODELS:
                file.unlink()
    for name in UNUSED_FOLDERS:
        for folder in list(SITE.rglob(name)):
            shutil.rmtree(folder)
    for pattern in UNUSED_FILES:
        for file in SITE.rglob(pattern):
            file.unlink()


def prove() -> None:
    """Import every module of the operator, with all that they import, from what is left."""
    for module in pkgutil.walk_packages(slipway_operator.__path__, "slipway_operator."):
        importlib.import_module(module.name)


if __name__ == "__main__":
    trim()
    prove()
